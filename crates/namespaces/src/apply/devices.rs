//! Moving network devices into the container; config-linux.md § Network Devices.

use super::netlink::{Address, Socket, State};
use crate::reason::Check;
use crate::{Error, Plan};
use coracle_bundle::NetDevice;
use coracle_sys::{Call, Cause, Cloned, NamespaceFlags, Parentage};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many numbers are tried for a name with `%d`.
const NUMBERS: i32 = 1000;
/// `IFNAMSIZ` of linux/if.h, including the final NUL.
const NAME_BYTES: usize = 16;

/// Devices that were moved into a network namespace. They can be moved back until the container is
/// created, even when no process is in the namespace any more: this holds a descriptor of it.
#[derive(Debug)]
pub struct MovedDevices<'a> {
    devices: Vec<Device<'a>>,
    network: OwnedFd,
    /// The runtime's own network namespace.
    own: OwnedFd,
}

/// A device that is being moved. The kernel drops its addresses when it goes down, so they are read
/// before.
#[derive(Debug)]
struct Device<'a> {
    plan: &'a NetDevice,
    index: u32,
    was_up: bool,
    addresses: Vec<Address>,
    /// Its name in the container's network namespace.
    name: String,
}

/// An operation of the child inside the container's network namespace.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Action {
    Join = 1,
    Socket,
    Name,
    Find,
    Address,
    Up,
}

impl Action {
    const ALL: [Action; 6] = [
        Action::Join,
        Action::Socket,
        Action::Name,
        Action::Find,
        Action::Address,
        Action::Up,
    ];

    fn text(self) -> &'static str {
        match self {
            Action::Join => "join the container's network namespace",
            Action::Socket => "open a routing socket in the container's network namespace",
            Action::Name => "look for its name in the container's network namespace",
            Action::Find => "find it in the container's network namespace",
            Action::Address => "add its address again",
            Action::Up => "bring it up in the container",
        }
    }
}

/// Where and why the child failed: the device's index in the list, the action, the errno.
struct Report {
    device: u8,
    action: Action,
    cause: Cause,
}

/// The length of the child's answer: an index and an action, and the cause or a number.
const ANSWER: usize = 2 + Cause::LENGTH;

/// Checks that all devices exist, before anything is created.
///
/// # Errors
/// The first device that is missing; routing sockets that cannot be used.
pub fn check_net_devices(plan: &Plan) -> Result<(), Error> {
    if plan.devices.is_empty() {
        return Ok(());
    }
    let socket = open_socket()?;
    plan.devices
        .iter()
        .try_for_each(|device| find(&socket, device).map(drop))
}

/// Moves the plan's devices into the network namespace `network`: down, moved and renamed in one
/// message, permanent global addresses added again, up. MTU and hardware address stay, and so does
/// the index if it is free there. After a failure the devices already moved are moved back, as far
/// as possible.
///
/// Source: config-linux.md § Network Devices; rtnetlink(7).
///
/// # Errors
/// The device and the operation that failed; the namespace already has a device of that name.
pub fn move_net_devices<'a>(plan: &'a Plan, network: OwnedFd) -> Result<MovedDevices<'a>, Error> {
    let socket = open_socket()?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let own = open(c"/proc/self/ns/net", flags, Mode::empty()).map_err(|errno| Error::Netlink {
        action: "open /proc/self/ns/net",
        cause: Cause::Call(Call::Open, errno),
    })?;
    let mut moved = MovedDevices {
        devices: Vec::new(),
        network,
        own,
    };
    let mut devices = plan.devices.iter();
    let answer = devices.try_for_each(|device| move_one(&socket, device, &mut moved));
    let answer = answer.and_then(|()| {
        let (network, devices) = (moved.network.as_fd(), &moved.devices);
        in_network(network, devices, |socket| set_up(socket, devices)).map(drop)
    });
    match answer {
        Ok(()) => Ok(moved),
        Err(error) => {
            moved.move_back();
            Err(error)
        }
    }
}

impl MovedDevices<'_> {
    /// Moves the devices back as far as possible. A further failure is ignored: the caller returns
    /// the first one.
    pub fn move_back(&self) {
        let (network, devices) = (self.network.as_fd(), &self.devices);
        let back = |socket: &Socket| Ok(move_back(socket, devices, &self.own));
        if in_network(network, devices, back).is_ok()
            && let Ok(socket) = open_socket()
        {
            for device in devices {
                restore(&socket, device);
            }
        }
    }
}

fn open_socket() -> Result<Socket, Error> {
    Socket::open().map_err(|cause| Error::Netlink {
        action: "open a routing socket",
        cause,
    })
}

fn find<'a>(socket: &Socket, plan: &'a NetDevice) -> Result<Device<'a>, Error> {
    match socket.link(&plan.host_name) {
        Ok(link) => Ok(Device {
            plan,
            index: link.index,
            was_up: link.is_up,
            addresses: Vec::new(),
            name: plan.name.clone(),
        }),
        Err(Cause::Call(_, Errno::ENODEV)) => Err(Error::NoDevice {
            host_name: plan.host_name.clone(),
        }),
        Err(cause) => Err(failed(plan, "look it up", cause)),
    }
}

/// Moves one device. It is added to `moved` once it has left, even if this then fails.
fn move_one<'a>(
    socket: &Socket,
    plan: &'a NetDevice,
    moved: &mut MovedDevices<'a>,
) -> Result<(), Error> {
    let network = moved.network.as_fd();
    let mut device = find(socket, plan)?;
    let addresses = socket.addresses(device.index);
    device.addresses = addresses.map_err(|cause| failed(plan, "read its addresses", cause))?;
    device.name = name_inside(network, &device)?;
    let down = socket.set(device.index, State::Down);
    down.map_err(|cause| failed(plan, "bring it down", cause))?;
    let answer = socket.move_link(device.index, network, &device.name);
    if answer.is_err() {
        if socket
            .link(&plan.host_name)
            .is_ok_and(|link| link.index == device.index)
        {
            restore(socket, &device);
            return answer.map_err(|cause| failed(plan, "move it", cause));
        }
        // The kernel moves first and renames then: another device took the name in between.
        device.name.clone_from(&plan.host_name);
    }
    moved.devices.push(device);
    answer.map_err(|cause| failed(plan, "move it", cause))
}

/// The kernel can choose the number of a `%d` name, but does not report which one.
fn name_inside(network: BorrowedFd<'_>, device: &Device<'_>) -> Result<String, Error> {
    let name = &device.plan.name;
    let devices = std::slice::from_ref(device);
    match in_network(network, devices, |socket| free_number(socket, name)) {
        Ok(NUMBERS) => Err(Error::DeviceExists {
            host_name: device.plan.host_name.clone(),
            name: name.clone(),
        }),
        Ok(number) => Ok(name.replacen("%d", &number.to_string(), 1)),
        Err(error) => Err(error),
    }
}

/// Restores addresses and state of a device that is back in the runtime's namespace.
fn restore(socket: &Socket, device: &Device<'_>) {
    let Ok(link) = socket.link(&device.plan.host_name) else {
        return;
    };
    for address in &device.addresses {
        let _ = socket.add(link.index, address);
    }
    if device.was_up {
        let _ = socket.set(link.index, State::Up);
    }
}

fn failed(plan: &NetDevice, action: &'static str, cause: Cause) -> Error {
    Error::Device {
        host_name: plan.host_name.clone(),
        action,
        cause,
    }
}

/// Runs `work` with a socket of the network namespace. A socket belongs to the namespace in which
/// it was made, and the runtime never leaves its own, so a short-lived child makes it.
fn in_network(
    network: BorrowedFd<'_>,
    devices: &[Device<'_>],
    work: impl FnOnce(&Socket) -> Result<i32, Report>,
) -> Result<i32, Error> {
    let failed = |action, call| {
        move |errno| Error::Netlink {
            action,
            cause: Cause::Call(call, errno),
        }
    };
    let pair = coracle_sys::socket_pair();
    let (ours, theirs) = pair.map_err(failed("make a socket pair", Call::Socket))?;
    let clone = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    let pidfd = match clone.map_err(failed("clone a process", Call::Clone))? {
        Cloned::Parent { pidfd, .. } => pidfd,
        Cloned::Child => {
            let answer = join(network).and_then(|socket| work(&socket));
            coracle_sys::exit(i32::from(send(&theirs, answer).is_err()));
        }
    };
    drop(theirs);
    let mut bytes = [0; ANSWER];
    let received = coracle_sys::receive(ours.as_fd(), &mut bytes);
    let ended = coracle_sys::wait_exit(pidfd.as_fd());
    let ended = ended.map_err(failed("wait for the process", Call::Wait))?;
    let action = "receive its report";
    match received.map_err(failed(action, Call::Receive))? {
        (ANSWER, _) => read_report(bytes, devices),
        _ => Err(Error::Netlink {
            action,
            cause: Cause::Exit(ended),
        }),
    }
}

fn join(network: BorrowedFd<'_>) -> Result<Socket, Report> {
    let report = |action| {
        move |cause| Report {
            device: 0,
            action,
            cause,
        }
    };
    let joined = coracle_sys::setns(network, NamespaceFlags::NETWORK);
    let joined = joined.map_err(Call::Setns.failed());
    joined.map_err(report(Action::Join))?;
    Socket::open().map_err(report(Action::Socket))
}

fn send(socket: &OwnedFd, answer: Result<i32, Report>) -> nix::Result<()> {
    let mut bytes = [0; ANSWER];
    match answer {
        Ok(number) => bytes[2..6].copy_from_slice(&number.to_ne_bytes()),
        Err(Report {
            device,
            action,
            cause,
        }) => {
            bytes[..2].copy_from_slice(&[device, action as u8]);
            bytes[2..].copy_from_slice(&cause.encode());
        }
    }
    coracle_sys::send(socket.as_fd(), &bytes, None).map(drop)
}

fn read_report(bytes: [u8; ANSWER], devices: &[Device<'_>]) -> Result<i32, Error> {
    let [device, action, value @ ..] = bytes;
    let action = Action::ALL.into_iter().find(|known| *known as u8 == action);
    match (action, devices.get(usize::from(device))) {
        (Some(action), Some(device)) => {
            let cause = Cause::decode(value).unwrap_or(Check::BadAnswer.into());
            Err(failed(device.plan, action.text(), cause))
        }
        _ => {
            let [a, b, c, d, ..] = value;
            Ok(i32::from_ne_bytes([a, b, c, d]))
        }
    }
}

/// The child's work before the move: finds the first number that makes a free name of the template.
fn free_number(socket: &Socket, template: &str) -> Result<i32, Report> {
    for number in 0..NUMBERS {
        let mut buffer = [0; NAME_BYTES];
        let Some(name) = fill_in(template, number, &mut buffer) else {
            break;
        };
        match socket.link(name) {
            Err(Cause::Call(_, Errno::ENODEV)) => return Ok(number),
            Err(cause) => {
                return Err(Report {
                    device: 0,
                    action: Action::Name,
                    cause,
                });
            }
            Ok(_) if name == template => break,
            Ok(_) => {}
        }
    }
    Ok(NUMBERS)
}

/// `None` where the name would be too long.
fn fill_in<'a>(
    template: &'a str,
    number: i32,
    buffer: &'a mut [u8; NAME_BYTES],
) -> Option<&'a str> {
    let Some((before, after)) = template.split_once("%d") else {
        return Some(template);
    };
    let mut rest = buffer.as_mut_slice();
    write!(rest, "{before}{number}{after}").ok()?;
    let length = NAME_BYTES - rest.len();
    let name = buffer.get(..length).unwrap_or(&[]);
    std::str::from_utf8(name).ok()
}

/// The child's work after the move: adds the addresses again and brings the devices up.
fn set_up(socket: &Socket, devices: &[Device<'_>]) -> Result<i32, Report> {
    for (device, place) in devices.iter().zip(0..) {
        let report = |action| {
            move |cause| Report {
                device: place,
                action,
                cause,
            }
        };
        let link = socket.link(&device.name).map_err(report(Action::Find))?;
        for address in &device.addresses {
            socket
                .add(link.index, address)
                .map_err(report(Action::Address))?;
        }
        socket
            .set(link.index, State::Up)
            .map_err(report(Action::Up))?;
    }
    Ok(0)
}

/// The child's work after a failure: moves the devices back. A namespace joined by path outlives
/// the failed container and would keep the device; a namespace that ends destroys its virtual
/// devices.
fn move_back(socket: &Socket, devices: &[Device<'_>], own: &OwnedFd) -> i32 {
    for device in devices {
        if let Ok(link) = socket.link(&device.name) {
            let _ = socket.set(link.index, State::Down);
            let _ = socket.move_link(link.index, own.as_fd(), &device.plan.host_name);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in() {
        let name = |template, number| fill_in(template, number, &mut [0; 16]).map(str::to_owned);
        assert_eq!(name("eth0", 7), Some("eth0".to_owned()));
        assert_eq!(name("x%dy", 12), Some("x12y".to_owned()));
        assert_eq!(name("abcdefghijklm%d", 1000), None);
    }
}
