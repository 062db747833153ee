//! `linux.resources.blockIO`: cgroup-v1/blkio-controller.rst, cgroup-v2.rst § IO.

use coracle_bundle::BlockIo;

use super::write::{Limits, Write, source};
use crate::Result;
use crate::table::{
    IO_DEVICE_LEAF_WEIGHT, IO_DEVICE_WEIGHT, IO_DEVICE_WEIGHT_OTHER, IO_LEAF_WEIGHT, IO_READ_BYTES,
    IO_READS, IO_WEIGHT, IO_WEIGHT_OTHER, IO_WRITE_BYTES, IO_WRITES, Row, Version,
};
use crate::value::{Device, Value};

/// Values of the blkio or io controller. A rate of zero is no limit.
pub(super) fn plan(block_io: &BlockIo, limits: &mut Limits) -> Result<()> {
    if let Some(weight) = block_io.weight {
        let rows = (&IO_WEIGHT, &IO_WEIGHT_OTHER);
        weights(
            limits,
            rows,
            &source(&IO_WEIGHT),
            |weight| weight.into(),
            weight,
        )?;
    }
    limits.set(&IO_LEAF_WEIGHT, block_io.leaf_weight)?;
    for (index, entry) in block_io.weight_device.iter().enumerate() {
        let source = format!("{}[{index}]", source(&IO_DEVICE_WEIGHT));
        let device = Device {
            major: entry.major,
            minor: entry.minor,
        };
        let of = |weight: u16| Value::Device(device, weight.into());
        if let Some(weight) = entry.weight {
            let rows = (&IO_DEVICE_WEIGHT, &IO_DEVICE_WEIGHT_OTHER);
            weights(limits, rows, &source, of, weight)?;
        }
        if let Some(weight) = entry.leaf_weight {
            let source = format!("{source}.leafWeight");
            limits.add(&IO_DEVICE_LEAF_WEIGHT, &source, of(weight), |write| write)?;
        }
    }
    for (row, devices) in [
        (&IO_READ_BYTES, &block_io.throttle_read_bps_device),
        (&IO_WRITE_BYTES, &block_io.throttle_write_bps_device),
        (&IO_READS, &block_io.throttle_read_iops_device),
        (&IO_WRITES, &block_io.throttle_write_iops_device),
    ] {
        for (index, entry) in devices.iter().enumerate() {
            let source = format!("{}[{index}]", source(row));
            let device = Device {
                major: entry.major,
                minor: entry.minor,
            };
            let value = Value::Device(device, entry.rate);
            limits.add(row, &source, value, |write| write)?;
        }
    }
    Ok(())
}

/// A weight for the file of bfq, or else for the other I/O schedulers' file: io.weight of v2 has
/// another range.
fn weights(
    limits: &mut Limits,
    (row, other): (&'static Row, &'static Row),
    source: &str,
    value: impl Fn(u16) -> Value,
    weight: u16,
) -> Result<()> {
    let version = limits.version(row.controller);
    let spread = match version {
        Version::V1 => weight,
        Version::V2 => io_weight(weight),
    };
    let other = Write::new(other.file(version), value(spread), source);
    limits.add(row, source, value(weight), |write| write.or(other))
}

/// Maps 10..=1000 of v1 linearly to 1..=10000 of v2.
fn io_weight(weight: u16) -> u16 {
    let spread = u32::from(weight.saturating_sub(10)) * 9999 / 990;
    u16::try_from(1 + spread).unwrap_or(10_000)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::check;
    use super::*;
    use coracle_bundle::{Resources, ThrottleDevice, WeightDevice};
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

    #[test]
    fn weights_and_throttles() {
        let resources = Resources {
            block_io: sample(),
            ..Resources::default()
        };
        check(
            &resources,
            "blkio.weight=500 or blkio.bfq.weight=500 blkio.leaf_weight=300 \
             blkio.weight_device=8:0 10 or blkio.bfq.weight_device=8:0 10 \
             blkio.leaf_weight_device=8:0 1000 \
             blkio.throttle.read_bps_device=8:0 600 blkio.throttle.write_iops_device=8:0 0",
            "io.bfq.weight=500 or io.weight=4950 io.bfq.weight=8:0 10 or io.weight=8:0 1 \
             io.max=8:0 rbps=600 io.max=8:0 wiops=max",
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
