//! The addresses of a bus: D-Bus Specification § Server Addresses.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// In the file system.
    Path(PathBuf),
    /// In the network namespace.
    Abstract(Vec<u8>),
}

/// The Unix sockets in a list of addresses, in order; other transports are skipped.
pub(crate) fn endpoints(addresses: &str) -> Vec<Endpoint> {
    addresses.split(';').filter_map(endpoint).collect()
}

fn endpoint(address: &str) -> Option<Endpoint> {
    let keys = address.strip_prefix("unix:")?;
    keys.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = unescape(value)?;
        match key {
            "path" => Some(Endpoint::Path(PathBuf::from(std::ffi::OsString::from_vec(
                value,
            )))),
            "abstract" => Some(Endpoint::Abstract(value)),
            _ => None,
        }
    })
}

/// Decodes the escapes of an address, such as `%2f` for a slash.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(part.get(2..)?.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let path = |path: &str| Endpoint::Path(path.into());
        let cases: [(&str, Vec<Endpoint>); 6] = [
            ("unix:path=/run/bus", vec![path("/run/bus")]),
            ("unix:path=/a%20b,guid=12;tcp:host=x", vec![path("/a b")]),
            (
                "unix:guid=1,abstract=/tmp/x",
                vec![Endpoint::Abstract(b"/tmp/x".to_vec())],
            ),
            ("unix:path=/a;unix:path=/b", vec![path("/a"), path("/b")]),
            ("tcp:host=localhost;unix:tmpdir=/tmp", vec![]),
            ("unix:path=/a%2", vec![]),
        ];
        for (text, expected) in cases {
            assert_eq!(endpoints(text), expected, "{text}");
        }
    }
}
