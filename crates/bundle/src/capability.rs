//! Names of capabilities: capabilities(7).

use caps::Capability;

/// The number of a capability by its name, `CAP_CHOWN` or `CHOWN`; `None` if it is unknown.
///
/// The name must be in upper case: the command line of `exec`, which accepts `cap_chown`, changes
/// the case first. In a config the prefix is required: `config.md § Linux Process`.
#[must_use]
pub fn parse_capability(name: &str) -> Option<u8> {
    parse_prefixed(name).or_else(|| parse_prefixed(&format!("CAP_{name}")))
}

/// The number of a capability by its name in a config, which has the prefix.
pub(crate) fn parse_prefixed(name: &str) -> Option<u8> {
    name.parse()
        .ok()
        .map(|capability: Capability| capability.index())
}

/// The name of a capability by its number; `None` above the last one known.
#[must_use]
pub fn capability_name(number: u8) -> Option<String> {
    let mut all = caps::all().into_iter();
    let found = all.find(|capability| capability.index() == number);
    found.map(|capability| capability.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime as oci;

    #[test]
    fn both_spellings_upper_case_only() {
        assert_eq!(parse_capability("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(parse_capability("NET_RAW"), Some(13));
        assert_eq!(parse_prefixed("NET_RAW"), None);
        assert_eq!(
            capability_name(40).as_deref(),
            Some("CAP_CHECKPOINT_RESTORE")
        );
        assert_eq!(capability_name(41), None);
        for unknown in [
            "",
            "CAP_",
            "cap_chown",
            "CAP_CAP_CHOWN",
            "CAP_NONE",
            "CAP_CHOWN ",
            "\0",
        ] {
            assert_eq!(parse_capability(unknown), None, "{unknown}");
        }
    }

    /// The validation goes from oci-spec's names to these numbers, and must lose none.
    #[test]
    fn every_capability_is_known_to_both_crates() {
        assert_eq!(caps::all().len(), 41);
        for capability in caps::all() {
            let name = capability.to_string();
            let parsed: oci::Capability = serde_json::from_value(name.clone().into()).unwrap();
            assert_eq!(
                parse_capability(&parsed.to_string()),
                Some(capability.index()),
                "{name}"
            );
            assert_eq!(capability_name(capability.index()), Some(name));
        }
    }
}
