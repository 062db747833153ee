//! Moving network devices into the container; config-linux.md § Network Devices.

use super::netlink::{Address, Socket, State};
use crate::{Error, Plan};
use coracle_bundle::NetDevice;
use coracle_sys::{Cloned, NamespaceFlags, Parentage};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// As many numbers are tried for a template.
const NUMBERS: i32 = 1000;
/// IFNAMSIZ.
const NAME_BYTES: usize = 16;

/// Devices that were moved into a network namespace. Until the container is created they can be
/// given back, also when no process is in the namespace any more: this holds a descriptor of it.
#[derive(Debug)]
pub struct MovedDevices<'a> {
    devices: Vec<Device<'a>>,
    network: OwnedFd,
    /// The runtime's own network namespace.
    own: OwnedFd,
}

/// A device that is being moved. Its addresses are lost when it goes down, so they are read before.
#[derive(Debug)]
struct Device<'a> {
    plan: &'a NetDevice,
    index: u32,
    was_up: bool,
    addresses: Vec<Address>,
    /// In the container's network namespace.
    name: String,
}

/// What the child inside the container's network namespace attempts.
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

/// Where and why the child failed: the device's place in the list, the action, the errno.
struct Report {
    device: u8,
    action: Action,
    errno: Errno,
}

/// All devices are there: found out before anything is created.
pub(super) fn check_present(plan: &Plan) -> Result<(), Error> {
    if plan.devices.is_empty() {
        return Ok(());
    }
    let socket = open_socket()?;
    plan.devices
        .iter()
        .try_for_each(|device| find(&socket, device).map(drop))
}

/// Moves the plan's devices into the network namespace `network`: down, moved and renamed in one
/// message, permanent global addresses added again, up. Index (where it is free), MTU and hardware
/// address stay. After a failure what was moved is moved back, as far as that works.
///
/// Source: config-linux.md § Network Devices; rtnetlink(7).
///
/// # Errors
/// The device and the step that failed; a device of that name being there already.
pub fn move_net_devices<'a>(plan: &'a Plan, network: OwnedFd) -> Result<MovedDevices<'a>, Error> {
    let socket = open_socket()?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let own = open(c"/proc/self/ns/net", flags, Mode::empty()).map_err(|errno| Error::Netlink {
        action: "open /proc/self/ns/net",
        errno,
    })?;
    let mut moved = MovedDevices {
        devices: Vec::new(),
        network,
        own,
    };
    let mut devices = plan.devices.iter();
    let answer = devices.try_for_each(|device| send_off(&socket, device, &mut moved));
    let answer = answer.and_then(|()| {
        let (network, devices) = (moved.network.as_fd(), &moved.devices);
        in_network(network, devices, |socket| set_up(socket, devices)).map(drop)
    });
    match answer {
        Ok(()) => Ok(moved),
        Err(error) => {
            moved.give_back();
            Err(error)
        }
    }
}

impl MovedDevices<'_> {
    /// Moves the devices back as far as that works: the caller returns the error that led here.
    pub fn give_back(&self) {
        let (network, devices) = (self.network.as_fd(), &self.devices);
        let back = |socket: &Socket| Ok(give_back(socket, devices, &self.own));
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
    Socket::open().map_err(|errno| Error::Netlink {
        action: "open a routing socket",
        errno,
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
        Err(Errno::ENODEV) => Err(Error::NoDevice {
            host_name: plan.host_name.clone(),
        }),
        Err(errno) => Err(failed(plan, "look it up", errno)),
    }
}

/// What has left, whatever happened then, is added to `moved`.
fn send_off<'a>(
    socket: &Socket,
    plan: &'a NetDevice,
    moved: &mut MovedDevices<'a>,
) -> Result<(), Error> {
    let network = moved.network.as_fd();
    let mut device = find(socket, plan)?;
    let addresses = socket.addresses(device.index);
    device.addresses = addresses.map_err(|errno| failed(plan, "read its addresses", errno))?;
    device.name = name_inside(network, &device)?;
    let down = socket.set(device.index, State::Down);
    down.map_err(|errno| failed(plan, "bring it down", errno))?;
    let answer = socket.move_link(device.index, network, &device.name);
    if answer.is_err() {
        if socket
            .link(&plan.host_name)
            .is_ok_and(|link| link.index == device.index)
        {
            restore(socket, &device);
            return answer.map_err(|errno| failed(plan, "move it", errno));
        }
        // The kernel renames after the move: the name was taken in that moment.
        device.name.clone_from(&plan.host_name);
    }
    moved.devices.push(device);
    answer.map_err(|errno| failed(plan, "move it", errno))
}

/// The kernel would pick a number for a template itself, but not say which.
fn name_inside(network: BorrowedFd<'_>, device: &Device<'_>) -> Result<String, Error> {
    let name = &device.plan.name;
    let devices = std::slice::from_ref(device);
    match in_network(network, devices, |socket| free_number(socket, name)) {
        Ok(number) => Ok(name.replacen("%d", &number.to_string(), 1)),
        Err(Error::Device {
            host_name,
            errno: Errno::EEXIST,
            ..
        }) => Err(Error::DeviceExists {
            host_name,
            name: name.clone(),
        }),
        Err(error) => Err(error),
    }
}

/// As it was, if it is here.
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

fn failed(plan: &NetDevice, action: &'static str, errno: Errno) -> Error {
    Error::Device {
        host_name: plan.host_name.clone(),
        action,
        errno,
    }
}

/// Runs `work` with a socket of the network namespace. A socket belongs to the namespace in which
/// it is made, and the runtime never leaves its own, so a short-lived child does it.
fn in_network(
    network: BorrowedFd<'_>,
    devices: &[Device<'_>],
    work: impl FnOnce(&Socket) -> Result<i32, Report>,
) -> Result<i32, Error> {
    let failed = |action| move |errno| Error::Netlink { action, errno };
    let (ours, theirs) = coracle_sys::socket_pair().map_err(failed("make a socket pair"))?;
    let clone = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    let pidfd = match clone.map_err(failed("clone a process"))? {
        Cloned::Parent { pidfd, .. } => pidfd,
        Cloned::Child => {
            let answer = join(network).and_then(|socket| work(&socket));
            coracle_sys::exit(i32::from(send(&theirs, answer).is_err()));
        }
    };
    drop(theirs);
    let mut bytes = [0; 6];
    let received = coracle_sys::receive(ours.as_fd(), &mut bytes);
    coracle_sys::wait_exit(pidfd.as_fd()).map_err(failed("wait for the process"))?;
    match received.map_err(failed("receive its report"))? {
        (6, _) => read_report(bytes, devices),
        _ => Err(failed("receive its report")(Errno::EPIPE)),
    }
}

fn join(network: BorrowedFd<'_>) -> Result<Socket, Report> {
    let report = |action| {
        move |errno| Report {
            device: 0,
            action,
            errno,
        }
    };
    coracle_sys::setns(network, NamespaceFlags::NETWORK).map_err(report(Action::Join))?;
    Socket::open().map_err(report(Action::Socket))
}

fn send(socket: &OwnedFd, answer: Result<i32, Report>) -> nix::Result<()> {
    let (device, action, number) = match answer {
        Ok(number) => (0, 0, number),
        Err(Report {
            device,
            action,
            errno,
        }) => (device, action as u8, errno as i32),
    };
    let [a, b, c, d] = number.to_ne_bytes();
    coracle_sys::send(socket.as_fd(), &[device, action, a, b, c, d], None).map(drop)
}

fn read_report(bytes: [u8; 6], devices: &[Device<'_>]) -> Result<i32, Error> {
    let [device, action, number @ ..] = bytes;
    let number = i32::from_ne_bytes(number);
    let action = Action::ALL.into_iter().find(|known| *known as u8 == action);
    match (action, devices.get(usize::from(device))) {
        (Some(action), Some(device)) => {
            Err(failed(device.plan, action.text(), Errno::from_raw(number)))
        }
        _ => Ok(number),
    }
}

/// The child's work before the move: a number for the template that makes a free name.
fn free_number(socket: &Socket, template: &str) -> Result<i32, Report> {
    let report = |errno| Report {
        device: 0,
        action: Action::Name,
        errno,
    };
    for number in 0..NUMBERS {
        let mut buffer = [0; NAME_BYTES];
        let name = fill_in(template, number, &mut buffer).map_err(report)?;
        match socket.link(name) {
            Err(Errno::ENODEV) => return Ok(number),
            Err(errno) => return Err(report(errno)),
            Ok(_) if name == template => break,
            Ok(_) => {}
        }
    }
    Err(report(Errno::EEXIST))
}

fn fill_in<'a>(
    template: &'a str,
    number: i32,
    buffer: &'a mut [u8; NAME_BYTES],
) -> nix::Result<&'a str> {
    let Some((before, after)) = template.split_once("%d") else {
        return Ok(template);
    };
    let mut rest = buffer.as_mut_slice();
    write!(rest, "{before}{number}{after}").map_err(|_| Errno::ENAMETOOLONG)?;
    let length = NAME_BYTES - rest.len();
    let name = buffer.get(..length).unwrap_or(&[]);
    std::str::from_utf8(name).map_err(|_| Errno::EINVAL)
}

/// The child's work after the move.
fn set_up(socket: &Socket, devices: &[Device<'_>]) -> Result<i32, Report> {
    for (device, place) in devices.iter().zip(0..) {
        let report = |action| {
            move |errno| Report {
                device: place,
                action,
                errno,
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

/// A namespace that is joined by path outlives a failure and would keep the device; one that ends
/// takes its virtual devices with it.
fn give_back(socket: &Socket, devices: &[Device<'_>], own: &OwnedFd) -> i32 {
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
        assert_eq!(name("eth0", 7), Ok("eth0".to_owned()));
        assert_eq!(name("x%dy", 12), Ok("x12y".to_owned()));
        assert_eq!(name("abcdefghijklm%d", 1000), Err(Errno::ENAMETOOLONG));
    }
}
