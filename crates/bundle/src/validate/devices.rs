//! `linux.devices`: config-linux.md § Devices.

use super::process::check_id;
use super::text::{absolute, check_absolute, climbs, path_text};
use crate::error::{At, Error, Shown};
use crate::{Device, DeviceKind};
use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxDeviceType as Type;
use std::path::Path;

/// Validates the device nodes to make.
pub(super) fn devices(raw: Option<&[oci::LinuxDevice]>, at: At<'_>) -> Result<Vec<Device>, Error> {
    let raw = raw.unwrap_or_default().iter().enumerate();
    raw.map(|(index, device)| self::device(device, at.index(index)))
        .collect()
}

/// The bits of the file type, which podman passes with the mode.
const TYPE_BITS: u32 = 0o170_000;

fn device(raw: &oci::LinuxDevice, at: At<'_>) -> Result<Device, Error> {
    let path = path_text(raw.path());
    check_absolute(path, at.key("path"))?;
    if climbs(path) || absolute(path) == Path::new("/") {
        return Err(at
            .key("path")
            .refuse(format!("{} cannot be a device", Shown(path))));
    }
    let kind = match raw.typ() {
        // `u` is an unbuffered character device, which Linux does not distinguish since 2.6.
        Type::C | Type::U => DeviceKind::Char,
        Type::B => DeviceKind::Block,
        Type::P => DeviceKind::Fifo,
        Type::A => return Err(at.key("type").refuse("\"a\" is not one of c, b, u, p")),
    };
    let (major, minor) = match kind {
        DeviceKind::Fifo => (0, 0),
        DeviceKind::Char | DeviceKind::Block => (
            number(raw.major(), MAX_MAJOR, at.key("major"))?,
            number(raw.minor(), MAX_MINOR, at.key("minor"))?,
        ),
    };
    let mode = raw.file_mode().unwrap_or(0o666) & !TYPE_BITS;
    if mode > 0o7777 {
        return Err(at
            .key("fileMode")
            .refuse(format!("0{mode:o} ({mode}) is above 07777")));
    }
    Ok(Device {
        path: absolute(path),
        kind,
        major,
        minor,
        mode,
        uid: check_id(raw.uid().unwrap_or(0), at.key("uid"))?,
        gid: check_id(raw.gid().unwrap_or(0), at.key("gid"))?,
    })
}

/// The largest device numbers: mknod(2) keeps 12 and 20 bits, so a larger one would make another
/// device.
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

fn number(value: i64, max: u32, at: At<'_>) -> Result<u32, Error> {
    match u32::try_from(value) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(at.refuse(format!("{value} is not from 0 to {max}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{accepted, refused, with};
    use serde_json::{Value, json};

    fn device(path: &str, kind: &str, major: i64, minor: i64) -> Value {
        json!({"path": path, "type": kind, "major": major, "minor": minor})
    }

    fn with_key(key: &str, value: Value) -> Value {
        let mut device = device("/dev/x", "c", 1, 3);
        device[key] = value;
        device
    }

    #[test]
    fn wrong_devices() {
        let at = "/linux/devices/-";
        refused(&[
            (
                at,
                device("/dev/x", "a", 1, 3),
                "linux.devices[0].type: \"a\" is not one of c, b, u, p",
            ),
            (
                at,
                device("/dev/x", "d", 1, 3),
                "linux.devices[0].type: unknown variant `d`, expected one of `a`, `b`, `c`, `u`, \
                 `p`",
            ),
            (
                at,
                json!({"path": "/dev/x"}),
                "linux.devices[0].type: required, but missing",
            ),
            (
                at,
                json!({"type": "p"}),
                "linux.devices[0].path: required, but missing",
            ),
            (
                at,
                json!({"path": "/dev/x", "type": "c", "major": 1}),
                "linux.devices[0].minor: required, but missing",
            ),
            (
                at,
                json!({"minor": 1, "path": "/dev/x", "type": "b"}),
                "linux.devices[0].major: required, but missing",
            ),
            (
                at,
                device("/dev/x", "c", -1, 3),
                "linux.devices[0].major: -1 is not from 0 to 4095",
            ),
            (
                at,
                device("/dev/x", "u", 4096, 3),
                "linux.devices[0].major: 4096 is not from 0 to 4095",
            ),
            (
                at,
                device("/dev/x", "b", 8, 1 << 20),
                "linux.devices[0].minor: 1048576 is not from 0 to 1048575",
            ),
            (
                at,
                device("dev/x", "c", 1, 3),
                "linux.devices[0].path: \"dev/x\" is not an absolute path",
            ),
            (
                at,
                device("", "c", 1, 3),
                "linux.devices[0].path: \"\" is not a path",
            ),
            (
                at,
                device("/dev/../x", "c", 1, 3),
                "linux.devices[0].path: \"/dev/../x\" cannot be a device",
            ),
            (
                at,
                device("/", "c", 1, 3),
                "linux.devices[0].path: \"/\" cannot be a device",
            ),
            (
                at,
                device("/x\0", "c", 1, 3),
                "linux.devices[0].path: \"/x\\0\" holds a NUL byte",
            ),
            (
                at,
                with_key("fileMode", json!(0o1_000_666)),
                "linux.devices[0].fileMode: 01000666 (262582) is above 07777",
            ),
            (
                at,
                with_key("uid", json!(u32::MAX)),
                "linux.devices[0].uid: 4294967295 (-1) is not an id",
            ),
            (
                at,
                with_key("gid", json!("0")),
                "linux.devices[0].gid: invalid type: string \"0\", expected a whole number from 0 \
                 to 4294967295",
            ),
        ]);
    }

    #[test]
    fn right_devices() {
        accepted(&[
            (
                "/linux/devices/-",
                json!({"path": "/dev/fifo", "type": "p"}),
            ),
            ("/linux/devices/-", with_key("uid", json!(null))),
        ]);
        let list = json!([
            {"path": "/dev/a/", "type": "u", "major": 5, "minor": 0, "fileMode": 0o020_620},
            {"path": "/dev/b", "type": "p", "major": 7, "minor": 7, "uid": 3, "gid": 4}
        ]);
        let devices = with("/linux/devices", list).linux.devices;
        let first = Device {
            path: "/dev/a".into(),
            kind: DeviceKind::Char,
            major: 5,
            minor: 0,
            mode: 0o620,
            uid: 0,
            gid: 0,
        };
        assert_eq!(devices[0], first);
        assert_eq!(
            (devices[1].kind, devices[1].major, devices[1].mode),
            (DeviceKind::Fifo, 0, 0o666)
        );
    }
}
