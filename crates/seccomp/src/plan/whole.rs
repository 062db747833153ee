//! A program that the config gives whole, in base64, as crun's annotation has it.

use super::program::{MAX_INSTRUCTIONS, RETURN};
use super::verdict::{ACTION, NOTIFY};
use super::{Listener, Plan, flags};
use crate::Error;
use coracle_bundle::Seccomp;
use coracle_bundle::annotation::SECCOMP_PROGRAM;
use coracle_sys::FilterInstruction;
use std::ffi::CString;

/// `BPF_RET | BPF_A`: the program computes what it returns.
const RETURN_COMPUTED: u16 = 0x16;
/// `struct sock_filter`: two bytes of code, two offsets of one byte, four bytes of a constant.
const INSTRUCTION_BYTES: usize = 8;

/// The plan for a program in base64. Of the profile, if there is one, only flags and listener are
/// used.
///
/// # Errors
/// [`Error::Program`]: it is no base64, or not of whole instructions, or of too many; or it
/// notifies and there is no listener's path.
pub fn plan_whole(
    text: &str,
    profile: Option<&Seccomp>,
    path: Option<CString>,
) -> Result<Plan, Error> {
    let refuse = |reason: &str| Error::Program {
        annotation: SECCOMP_PROGRAM,
        reason: reason.to_owned(),
    };
    let bytes = decode(text.as_bytes()).ok_or_else(|| refuse("expected base64"))?;
    let (instructions, rest) = bytes.as_chunks::<INSTRUCTION_BYTES>();
    let length = instructions.len();
    if !rest.is_empty() || length == 0 || length > MAX_INSTRUCTIONS {
        return Err(refuse(&format!(
            "{} bytes are not 1 to {MAX_INSTRUCTIONS} instructions of {INSTRUCTION_BYTES}",
            bytes.len()
        )));
    }
    let program: Vec<_> = instructions.iter().map(instruction).collect();
    let notifies = program
        .iter()
        .any(|i| i.code == RETURN && i.constant & ACTION == NOTIFY);
    let computes = program.iter().any(|i| i.code == RETURN_COMPUTED);
    let listener = match path.filter(|_| notifies || computes) {
        None if notifies => {
            return Err(refuse(
                "it notifies, but linux.seccomp.listenerPath is missing",
            ));
        }
        path => path.map(|path| Listener {
            path,
            metadata: profile.and_then(|profile| profile.listener_metadata.clone()),
            // It is not known.
            notifies_sendmsg: true,
        }),
    };
    let mut notes = Vec::new();
    let listed = profile.and_then(|profile| profile.flags.as_deref());
    Ok(Plan {
        flags: flags(listed, listener.is_some(), &mut notes),
        program,
        listener,
        abis: Vec::new(),
        default: 0,
        unknown_names: Vec::new(),
        notes,
    })
}

impl Plan {
    /// Whether the program, as far as its instructions tell, can answer a call with success without
    /// doing it: by errno 0, by a notification, or by what it computes.
    #[must_use]
    pub fn may_fake(&self) -> bool {
        const ERRNO_ZERO: u32 = 0x0005_0000;
        self.program.iter().any(|i| match i.code {
            RETURN => i.constant == ERRNO_ZERO || i.constant & ACTION == NOTIFY,
            code => code == RETURN_COMPUTED,
        })
    }
}

fn instruction(bytes: &[u8; INSTRUCTION_BYTES]) -> FilterInstruction {
    let [c0, c1, jump_true, jump_false, k0, k1, k2, k3] = *bytes;
    FilterInstruction {
        code: u16::from_ne_bytes([c0, c1]),
        jump_true,
        jump_false,
        constant: u32::from_ne_bytes([k0, k1, k2, k3]),
    }
}

/// RFC 4648 § 4. The padding may be missing; anything else that is not of the alphabet may not be
/// there.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text
        .strip_suffix(b"==")
        .or(text.strip_suffix(b"="))
        .unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for group in unpadded.chunks(4) {
        let mut bits = 0_u32;
        for place in 0..4 {
            let digit = match group.get(place) {
                None => 0,
                Some(letter @ b'A'..=b'Z') => letter - b'A',
                Some(letter @ b'a'..=b'z') => letter - b'a' + 26,
                Some(digit @ b'0'..=b'9') => digit - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                Some(_) => return None,
            };
            bits = bits << 6 | u32::from(digit);
        }
        let [_, decoded @ ..] = bits.to_be_bytes();
        let count = group.len().checked_sub(1).filter(|count| *count > 0)?;
        bytes.extend(decoded.iter().take(count));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        for (text, expected) in [
            ("", Some(&b""[..])),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYg", Some(b"foob")),
            ("+/8A", Some(&[0xfb, 0xff, 0])),
            ("Z", None),
            ("Zm9v\n", None),
            ("Zg==Zg==", None),
        ] {
            assert_eq!(decode(text.as_bytes()).as_deref(), expected, "{text:?}");
        }
    }

    /// `BPF_STMT(BPF_RET | BPF_K, …)` of an action.
    const ALLOW: &str = "BgAAAAAA/38=";
    const NOTIFIES: &str = "BgAAAAAAwH8=";
    const COMPUTES: &str = "FgAAAAAAAAA=";

    fn check(text: &str, path: Option<&std::ffi::CStr>) -> String {
        match plan_whole(text, None, path.map(Into::into)) {
            Ok(plan) => format!("{} fakes: {}", plan.describe(0), plan.may_fake()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn it_is_loaded_as_it_is() {
        assert_eq!(
            check(ALLOW, Some(c"/agent")),
            "load the seccomp filter (1 instructions as given, SPEC_ALLOW) fakes: false"
        );
        assert_eq!(
            check(NOTIFIES, Some(c"/agent")),
            "load the seccomp filter (1 instructions as given, SPEC_ALLOW, listener to /agent) \
             fakes: true"
        );
        assert!(check(COMPUTES, None).ends_with("SPEC_ALLOW) fakes: true"));
        assert!(check("BgAAAAAABQA=", None).ends_with("fakes: true"));
        assert!(check("BgAAAAEABQA=", None).ends_with("fakes: false"));
    }

    #[test]
    fn what_is_refused_names_the_annotation() {
        let start = "annotations[\"run.oci.seccomp_bpf_data\"]: ";
        let long = "A".repeat(43_704);
        for (text, reason) in [
            ("!", "expected base64"),
            ("", "0 bytes are not 1 to 4096 instructions of 8"),
            ("Zm9v", "3 bytes are not 1 to 4096 instructions of 8"),
            (
                NOTIFIES,
                "it notifies, but linux.seccomp.listenerPath is missing",
            ),
            (&long, "32778 bytes are not 1 to 4096 instructions of 8"),
        ] {
            assert_eq!(check(text, None), format!("{start}{reason}"));
        }
    }
}
