//! `blockIO`.

use crate::error::{At, Error};
use crate::{BlockIo, ThrottleDevice, WeightDevice};
use oci_spec::runtime as oci;

/// Validates weights and throttles.
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

/// Validates a weight. Zero means that it is not set.
fn weight(weight: Option<u16>, at: At<'_>) -> Result<Option<u16>, Error> {
    match weight {
        None | Some(0) => Ok(None),
        Some(value) if !(10..=1000).contains(&value) => {
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

/// Validates a device number; there are no wildcards.
fn number(value: i64, at: At<'_>) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| at.refuse(format!("{value} is not a device number")))
}

#[cfg(test)]
mod tests {
    use crate::fixture::{accepted, refused, with};
    use serde_json::json;

    #[test]
    fn weights_and_throttles() {
        let at = "/linux/resources/blockIO";
        let range = "is not from 10 to 1000";
        refused(&[
            (
                at,
                json!({"weight": 9}),
                &format!("linux.resources.blockIO.weight: 9 {range}"),
            ),
            (
                at,
                json!({"weight": 1001}),
                &format!("linux.resources.blockIO.weight: 1001 {range}"),
            ),
            (
                at,
                json!({"leafWeight": 5}),
                &format!("linux.resources.blockIO.leafWeight: 5 {range}"),
            ),
            (
                at,
                json!({"weight": 65_536}),
                "linux.resources.blockIO.weight: invalid value: integer `65536`, expected a whole \
                 number from 0 to 65535",
            ),
            (
                at,
                json!({"weightDevice": [{"major": 8, "minor": 0}]}),
                "linux.resources.blockIO.weightDevice[0]: neither weight nor leafWeight is given",
            ),
            (
                at,
                json!({"weightDevice": [{"major": 8, "weight": 10}]}),
                "linux.resources.blockIO.weightDevice[0].minor: required, but missing",
            ),
            (
                at,
                json!({"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 1}]}),
                &format!("linux.resources.blockIO.weightDevice[0].leafWeight: 1 {range}"),
            ),
            (
                at,
                json!({"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}),
                "linux.resources.blockIO.throttleReadBpsDevice[0].major: -1 is not a device number",
            ),
            (
                at,
                json!({"throttleWriteIOPSDevice": [{"major": 8, "minor": 0}]}),
                "linux.resources.blockIO.throttleWriteIOPSDevice[0].rate: required, but missing",
            ),
            (
                at,
                json!({"throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": -1}]}),
                "linux.resources.blockIO.throttleReadIOPSDevice[0].rate: invalid value: integer \
                 `-1`, expected a whole number from 0 to 18446744073709551615",
            ),
        ]);
        accepted(&[
            (at, json!({"weight": 0})),
            (at, json!({"weight": 10, "leafWeight": 1000})),
        ]);
        let limits = json!({
            "weightDevice": [{"major": 8, "minor": 0, "weight": 100}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 1}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 2, "rate": 2}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 3, "rate": 3}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 4, "rate": u64::MAX}]
        });
        let limits = with(at, limits).linux.resources.block_io;
        assert_eq!(limits.weight_device[0].weight, Some(100));
        assert_eq!(limits.throttle_read_bps_device[0].minor, 1);
        assert_eq!(limits.throttle_write_bps_device[0].minor, 2);
        assert_eq!(limits.throttle_read_iops_device[0].minor, 3);
        assert_eq!(limits.throttle_write_iops_device[0].rate, u64::MAX);
    }
}
