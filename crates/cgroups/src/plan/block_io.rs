//! `linux.resources.blockIO`: cgroup-v1/blkio-controller.rst, cgroup-v2.rst § IO.

use coracle_bundle::{BlockIo, ThrottleDevice, WeightDevice};

use super::limits::Version;
use super::write::Write;
use crate::{Error, Result};

const BASE: &str = "linux.resources.blockIO";

/// Values of the blkio or io controller. A weight of zero means "leave as it is", a rate of zero is
/// no limit.
pub(super) fn plan(block_io: &BlockIo, version: Version) -> Result<Vec<Write>> {
    check_weight(block_io.weight, &format!("{BASE}.weight"))?;
    check_weight(block_io.leaf_weight, &format!("{BASE}.leafWeight"))?;
    for (index, device) in block_io.weight_device.iter().enumerate() {
        check_device(device, &format!("{BASE}.weightDevice[{index}]"))?;
    }
    let mut writes = weights(block_io, version);
    for (index, device) in block_io.weight_device.iter().enumerate() {
        let source = format!("{BASE}.weightDevice[{index}]");
        device_weights(device, version, &source, &mut writes);
    }
    let throttles = [
        (
            "throttleReadBpsDevice",
            &block_io.throttle_read_bps_device,
            "rbps",
            "read_bps",
        ),
        (
            "throttleWriteBpsDevice",
            &block_io.throttle_write_bps_device,
            "wbps",
            "write_bps",
        ),
        (
            "throttleReadIOPSDevice",
            &block_io.throttle_read_iops_device,
            "riops",
            "read_iops",
        ),
        (
            "throttleWriteIOPSDevice",
            &block_io.throttle_write_iops_device,
            "wiops",
            "write_iops",
        ),
    ];
    for (field, devices, key, file) in throttles {
        for (index, device) in devices.iter().enumerate() {
            let source = format!("{BASE}.{field}[{index}]");
            writes.push(match version {
                Version::V1 => {
                    let ThrottleDevice { major, minor, rate } = device;
                    let file = format!("blkio.throttle.{file}_device");
                    Write::new(file, format!("{major}:{minor} {rate}"), &source)
                }
                Version::V2 => Write::new("io.max", throttle(device, key), &source),
            });
        }
    }
    Ok(writes)
}

fn check_weight(weight: Option<u16>, path: &str) -> Result<()> {
    match weight {
        None | Some(0 | 10..=1000) => Ok(()),
        Some(weight) => {
            let reason = format!("{weight} is not within 10 to 1000");
            Err(Error::config(path, reason))
        }
    }
}

fn check_device(device: &WeightDevice, path: &str) -> Result<()> {
    if device.weight.is_none() && device.leaf_weight.is_none() {
        return Err(Error::config(path, "needs a weight or a leafWeight"));
    }
    check_weight(device.weight, &format!("{path}.weight"))?;
    check_weight(device.leaf_weight, &format!("{path}.leafWeight"))
}

/// Which file there is depends on the I/O scheduler: bfq brings its own.
fn weights(block_io: &BlockIo, version: Version) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(weight) = set(block_io.weight) {
        let source = &format!("{BASE}.weight");
        writes.push(match version {
            Version::V1 => Write::new("blkio.weight", weight, source).or(Write::new(
                "blkio.bfq.weight",
                weight,
                source,
            )),
            Version::V2 => Write::new("io.bfq.weight", weight, source).or(Write::new(
                "io.weight",
                io_weight(weight),
                source,
            )),
        });
    }
    if let (Some(weight), Version::V1) = (set(block_io.leaf_weight), version) {
        let source = &format!("{BASE}.leafWeight");
        writes.push(Write::new("blkio.leaf_weight", weight, source));
    }
    writes
}

fn device_weights(device: &WeightDevice, version: Version, source: &str, writes: &mut Vec<Write>) {
    let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
    if let Some(weight) = set(device.weight) {
        writes.push(match version {
            Version::V1 => Write::new("blkio.weight_device", line(weight), source).or(Write::new(
                "blkio.bfq.weight_device",
                line(weight),
                source,
            )),
            Version::V2 => Write::new("io.bfq.weight", line(weight), source).or(Write::new(
                "io.weight",
                line(io_weight(weight)),
                source,
            )),
        });
    }
    if let (Some(weight), Version::V1) = (set(device.leaf_weight), version) {
        writes.push(Write::new("blkio.leaf_weight_device", line(weight), source));
    }
}

fn throttle(device: &ThrottleDevice, key: &str) -> String {
    let ThrottleDevice { major, minor, rate } = device;
    match rate {
        0 => format!("{major}:{minor} {key}=max"),
        rate => format!("{major}:{minor} {key}={rate}"),
    }
}

/// 10..=1000 of v1 spread over 1..=10000 of v2.
fn io_weight(weight: u16) -> u16 {
    let spread = u32::from(weight.saturating_sub(10)) * 9999 / 990;
    u16::try_from(1 + spread).unwrap_or(10_000)
}

fn set(weight: Option<u16>) -> Option<u16> {
    weight.filter(|weight| *weight != 0)
}

#[cfg(test)]
mod tests {
    use super::super::write::text;
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn sample() -> BlockIo {
        let throttle = |rate| ThrottleDevice {
            major: 8,
            minor: 0,
            rate,
        };
        BlockIo {
            weight: Some(500),
            leaf_weight: Some(300),
            weight_device: vec![WeightDevice {
                major: 8,
                minor: 0,
                weight: Some(10),
                leaf_weight: Some(1000),
            }],
            throttle_read_bps_device: vec![throttle(600)],
            throttle_write_iops_device: vec![throttle(0)],
            ..BlockIo::default()
        }
    }

    fn check(block_io: &BlockIo, version: Version, expected: Expect) {
        let text = text(&plan(block_io, version));
        expected.assert_eq(&text.replace(" blkio", "\nblkio").replace(" io.", "\nio."));
    }

    #[test]
    fn v1() {
        let expected = expect![[r#"
            blkio.weight=500 or
            blkio.bfq.weight=500
            blkio.leaf_weight=300
            blkio.weight_device=8:0 10 or
            blkio.bfq.weight_device=8:0 10
            blkio.leaf_weight_device=8:0 1000
            blkio.throttle.read_bps_device=8:0 600
            blkio.throttle.write_iops_device=8:0 0"#]];
        check(&sample(), Version::V1, expected);
    }

    #[test]
    fn v2() {
        let expected = expect![[r#"
            io.bfq.weight=500 or
            io.weight=4950
            io.bfq.weight=8:0 10 or
            io.weight=8:0 1
            io.max=8:0 rbps=600
            io.max=8:0 wiops=max"#]];
        check(&sample(), Version::V2, expected);
    }

    #[test]
    fn refusals() {
        let weight = BlockIo {
            weight: Some(9),
            ..BlockIo::default()
        };
        assert_eq!(
            text(&plan(&weight, Version::V2)),
            "error: linux.resources.blockIO.weight: 9 is not within 10 to 1000"
        );
        let device = WeightDevice {
            major: 8,
            minor: 0,
            weight: None,
            leaf_weight: None,
        };
        let empty = BlockIo {
            weight_device: vec![device],
            ..BlockIo::default()
        };
        assert_eq!(
            text(&plan(&empty, Version::V1)),
            "error: linux.resources.blockIO.weightDevice[0]: needs a weight or a leafWeight"
        );
    }

    proptest! {
        #[test]
        fn io_weights_keep_order_and_ends(weight in 10u16..1000) {
            prop_assert!((1..=10_000).contains(&io_weight(weight)));
            prop_assert!(io_weight(weight) < io_weight(weight + 1));
            prop_assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
        }
    }
}
