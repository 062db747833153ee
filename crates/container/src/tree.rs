//! The config as JSON, for verbs that change a part of it and keep the rest as it is.

use serde_json::{Value, json};

/// The value at this path of keys. It is null where it is missing; so are objects on the way made.
pub(crate) fn at<'a>(tree: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(tree, |place, key| {
        if !place.is_object() {
            *place = json!({});
        }
        match place {
            Value::Object(members) => members.entry(*key).or_insert(Value::Null),
            place => place,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made() {
        let mut tree = json!({"a": null, "b": [1]});
        *at(&mut tree, &["a", "c"]) = json!(2);
        assert_eq!(*at(&mut tree, &["b"]), json!([1]));
        assert_eq!(*at(&mut tree, &["d"]), Value::Null);
        assert_eq!(tree, json!({"a": {"c": 2}, "b": [1], "d": null}));
    }
}
