//! `linux.devices`: config-linux.md § Devices.

use super::process::check_id;
use super::text::{check_absolute, clean, climbs, path_text};
use crate::error::{At, Error, Shown};
use crate::{Device, DeviceKind};
use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxDeviceType as Type;
use std::path::Path;

/// The nodes to make.
pub(super) fn devices(raw: Option<&[oci::LinuxDevice]>, at: At<'_>) -> Result<Vec<Device>, Error> {
    let raw = raw.unwrap_or_default().iter().enumerate();
    raw.map(|(index, device)| self::device(device, at.index(index)))
        .collect()
}

/// `S_IFMT`: podman hands over the whole mode of the host's node.
const TYPE_BITS: u32 = 0o170_000;

fn device(raw: &oci::LinuxDevice, at: At<'_>) -> Result<Device, Error> {
    let path = path_text(raw.path());
    check_absolute(path, at.key("path"))?;
    if climbs(path) || clean(path) == Path::new("/") {
        return Err(at
            .key("path")
            .refuse(format!("{} cannot be a device", Shown(path))));
    }
    let kind = match raw.typ() {
        // An unbuffered character device is an ordinary one since Linux 2.6.
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
            .refuse(format!("{mode:#o} ({mode}) is above 07777")));
    }
    Ok(Device {
        path: clean(path),
        kind,
        major,
        minor,
        mode,
        uid: check_id(raw.uid().unwrap_or(0), at.key("uid"))?,
        gid: check_id(raw.gid().unwrap_or(0), at.key("gid"))?,
    })
}

/// mknod(2) would cut larger numbers off and make another device: 12 and 20 bits are kept.
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

fn number(value: i64, max: u32, at: At<'_>) -> Result<u32, Error> {
    match u32::try_from(value) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(at.refuse(format!("{value} is not from 0 to {max}"))),
    }
}
