//! `blockIO`.

use crate::error::{At, Error};
use crate::{BlockIo, ThrottleDevice, WeightDevice};
use oci_spec::runtime as oci;

/// Weights and throttles by device.
pub(super) fn block_io(raw: &oci::LinuxBlockIo, at: At<'_>) -> Result<BlockIo, Error> {
    let throttles = |list: &Option<Vec<oci::LinuxThrottleDevice>>, key: &str| {
        let at = at.key(key);
        let list = list.iter().flatten().enumerate();
        list.map(|(index, entry)| throttle(entry, at.index(index)))
            .collect::<Result<Vec<_>, _>>()
    };
    let at_devices = at.key("weightDevice");
    let devices = raw.weight_device().iter().flatten().enumerate();
    Ok(BlockIo {
        weight: weight(raw.weight(), at.key("weight"))?,
        leaf_weight: weight(raw.leaf_weight(), at.key("leafWeight"))?,
        weight_device: devices
            .map(|(index, entry)| weight_device(entry, at_devices.index(index)))
            .collect::<Result<_, _>>()?,
        throttle_read_bps_device: throttles(
            raw.throttle_read_bps_device(),
            "throttleReadBpsDevice",
        )?,
        throttle_write_bps_device: throttles(
            raw.throttle_write_bps_device(),
            "throttleWriteBpsDevice",
        )?,
        throttle_read_iops_device: throttles(
            raw.throttle_read_iops_device(),
            "throttleReadIOPSDevice",
        )?,
        throttle_write_iops_device: throttles(
            raw.throttle_write_iops_device(),
            "throttleWriteIOPSDevice",
        )?,
    })
}

/// Zero is unset.
fn weight(weight: Option<u16>, at: At<'_>) -> Result<Option<u16>, Error> {
    match weight {
        Some(value) if value != 0 && !(10..=1000).contains(&value) => {
            Err(at.refuse(format!("{value} is not from 10 to 1000")))
        }
        weight => Ok(weight),
    }
}

fn weight_device(raw: &oci::LinuxWeightDevice, at: At<'_>) -> Result<WeightDevice, Error> {
    if raw.weight().is_none() && raw.leaf_weight().is_none() {
        return Err(at.refuse("neither weight nor leafWeight is given"));
    }
    Ok(WeightDevice {
        major: number(raw.major(), at.key("major"))?,
        minor: number(raw.minor(), at.key("minor"))?,
        weight: weight(raw.weight(), at.key("weight"))?,
        leaf_weight: weight(raw.leaf_weight(), at.key("leafWeight"))?,
    })
}

fn throttle(raw: &oci::LinuxThrottleDevice, at: At<'_>) -> Result<ThrottleDevice, Error> {
    Ok(ThrottleDevice {
        major: number(raw.major(), at.key("major"))?,
        minor: number(raw.minor(), at.key("minor"))?,
        rate: raw.rate(),
    })
}

/// A device number that exists: no wildcards here.
fn number(value: i64, at: At<'_>) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| at.refuse(format!("{value} is not a device number")))
}
