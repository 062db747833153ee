//! `resolv.conf` and `hosts` for the container, from the results.

use serde_json::Value;

use super::attachment::{Attachment, Plan};

/// The text of `resolv.conf`: the requested servers, else those of the results, with the
/// results' domain, search list and options. resolv.conf(5).
#[must_use]
pub fn resolv_conf(plan: &Plan) -> String {
    let mut lines = Vec::new();
    let mut line = |key: &str, words: Vec<String>| {
        if !words.is_empty() {
            lines.push(format!("{key} {}\n", words.join(" ")));
        }
    };
    line(
        "domain",
        words(plan, "domain").into_iter().take(1).collect(),
    );
    line("search", words(plan, "search"));
    line("options", words(plan, "options"));
    let servers = match plan.servers.is_empty() {
        true => words(plan, "nameservers"),
        false => plan.servers.clone(),
    };
    for server in servers {
        line("nameserver", vec![server]);
    }
    lines.concat()
}

/// The text of `hosts`: the container's name at its addresses. hosts(5).
#[must_use]
pub fn hosts(plan: &Plan, hostname: &str) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n");
    if !is_word(hostname) {
        return text;
    }
    for attachment in &plan.attachments {
        for address in attachment.addresses() {
            text.push_str(&format!("{address}\t{hostname}\n"));
        }
    }
    text
}

impl Attachment {
    /// The addresses of the interface in the result, without their prefixes.
    #[must_use]
    pub fn addresses(&self) -> Vec<&str> {
        let result = self.result.as_ref();
        let list = result.and_then(|result| result.get("ips")?.as_array());
        list.into_iter()
            .flatten()
            .filter_map(|entry| entry.get("address")?.as_str())
            .filter_map(|address| address.split('/').next())
            .filter(|address| is_word(address))
            .collect()
    }
}

/// All words of one member of the results' `dns`, in order, each once.
fn words(plan: &Plan, member: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for attachment in &plan.attachments {
        let dns = attachment
            .result
            .as_ref()
            .and_then(|result| result.get("dns"));
        let found = match dns.and_then(|dns| dns.get(member)) {
            Some(Value::Array(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        for word in found.iter().filter_map(Value::as_str) {
            if is_word(word) && !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
    }
    words
}

/// Whether the text has no character that would begin another word or line of the file.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|letter: char| letter.is_control() || letter.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::super::attachment::{Attachment, Plan, Search};
    use super::super::tests::list;
    use super::*;
    use serde_json::json;

    fn plan(results: &[Value], servers: &[&str]) -> Plan {
        let config = json!({"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "x"}]});
        let attachment = |result: &Value| Attachment {
            network: list(&config),
            interface: "eth0".to_owned(),
            arguments: serde_json::Map::new(),
            begun: true,
            result: Some(result.clone()),
        };
        Plan {
            attachments: results.iter().map(attachment).collect(),
            search: Search::default(),
            servers: servers.iter().map(|&server| server.to_owned()).collect(),
            files: true,
            unprivileged: false,
        }
    }

    #[test]
    fn the_files_hold_what_plugins_reported() {
        let results = [
            json!({"ips": [{"address": "10.0.0.2/16"}, {"address": "fd00::2/64"}], "dns": {
                "nameservers": ["10.0.0.1"], "domain": "a.example", "search": ["a", "b c", "d"],
                "options": ["ndots:1", "x\nnameserver 6.6.6.6"]}}),
            json!({"ips": [{"address": "10.1.0.2/16"}],
                "dns": {"nameservers": ["10.0.0.1", "9.9.9.9"]}}),
        ];
        let expected = "domain a.example\nsearch a d\noptions ndots:1\n\
                        nameserver 10.0.0.1\nnameserver 9.9.9.9\n";
        assert_eq!(resolv_conf(&plan(&results, &[])), expected);
        let text = resolv_conf(&plan(&results, &["8.8.8.8"]));
        assert!(text.ends_with("ndots:1\nnameserver 8.8.8.8\n"), "{text}");
        let local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n";
        let text = hosts(&plan(&results, &[]), "web");
        assert_eq!(
            text,
            format!("{local}10.0.0.2\tweb\nfd00::2\tweb\n10.1.0.2\tweb\n")
        );
        assert_eq!(hosts(&plan(&results, &[]), "a b"), local);
        assert_eq!(hosts(&plan(&[json!({})], &[]), "web"), local);
    }
}
