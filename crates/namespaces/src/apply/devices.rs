//! Moving network devices into the container; config-linux.md § Network Devices.

use super::netlink::{Address, Socket, State, Which};
use crate::{Error, Plan};
use coracle_bundle::NetDevice;
use coracle_sys::{Cloned, NamespaceFlags, Parentage};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A device on its way. Its addresses are lost when it goes down, so they are read before.
struct Device<'a> {
    plan: &'a NetDevice,
    index: u32,
    was_up: bool,
    addresses: Vec<Address>,
}

/// What the child inside the container's network namespace attempts.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Action {
    Join = 1,
    Socket,
    Find,
    Address,
    Up,
}

impl Action {
    const ALL: [Action; 5] =
        [Action::Join, Action::Socket, Action::Find, Action::Address, Action::Up];

    fn text(self) -> &'static str {
        match self {
            Action::Join => "join the container's network namespace",
            Action::Socket => "open a routing socket in the container's network namespace",
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
    plan.devices.iter().try_for_each(|device| find(&socket, device).map(drop))
}

/// Moves the plan's devices into the network namespace `network`: down, moved and renamed in one
/// message, permanent global addresses added again, up. Index (where it is free), MTU and hardware
/// address stay. After a failure what was moved is moved back, as far as that works.
///
/// Source: config-linux.md § Network Devices; rtnetlink(7).
///
/// # Errors
/// The device and the step that failed; a device of that name being there already.
pub fn move_net_devices(plan: &Plan, network: BorrowedFd<'_>) -> Result<(), Error> {
    if plan.devices.is_empty() {
        return Ok(());
    }
    let socket = open_socket()?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let home = open(c"/proc/self/ns/net", flags, Mode::empty())
        .map_err(|errno| Error::Netlink { action: "open /proc/self/ns/net", errno })?;
    let mut moved = Vec::new();
    let sent = plan.devices.iter().try_for_each(|device| {
        moved.push(send_off(&socket, device, network)?);
        Ok(())
    });
    match sent.and_then(|()| in_network(network, &moved, set_up)) {
        Ok(()) => Ok(()),
        Err(error) => {
            // Best effort: the first error is the one to tell.
            let _ = in_network(network, &moved, |socket, devices| {
                give_back(socket, devices, &home);
                Ok(())
            });
            Err(error)
        }
    }
}

fn open_socket() -> Result<Socket, Error> {
    Socket::open().map_err(|errno| Error::Netlink { action: "open a routing socket", errno })
}

fn find<'a>(socket: &Socket, plan: &'a NetDevice) -> Result<Device<'a>, Error> {
    match socket.link(Which::Name(&plan.host_name)) {
        Ok(link) => {
            Ok(Device { plan, index: link.index, was_up: link.is_up, addresses: Vec::new() })
        }
        Err(Errno::ENODEV) => Err(Error::NoDevice { host_name: plan.host_name.clone() }),
        Err(errno) => Err(failed(plan, "look it up", errno)),
    }
}

fn send_off<'a>(
    socket: &Socket,
    plan: &'a NetDevice,
    network: BorrowedFd<'_>,
) -> Result<Device<'a>, Error> {
    let mut device = find(socket, plan)?;
    let addresses = socket.addresses(device.index);
    device.addresses = addresses.map_err(|errno| failed(plan, "read its addresses", errno))?;
    let down = socket.set(device.index, State::Down);
    down.map_err(|errno| failed(plan, "bring it down", errno))?;
    match socket.move_link(device.index, network, &plan.name) {
        Ok(()) => Ok(device),
        Err(errno) => {
            restore(socket, &device);
            Err(match errno {
                Errno::EEXIST => Error::DeviceExists {
                    host_name: plan.host_name.clone(),
                    name: plan.name.clone(),
                },
                _ => failed(plan, "move it to the container's network namespace", errno),
            })
        }
    }
}

/// It stayed here: as it was, as far as that works.
fn restore(socket: &Socket, device: &Device<'_>) {
    if device.was_up {
        let _ = socket.set(device.index, State::Up);
        for address in &device.addresses {
            let _ = socket.add(device.index, address);
        }
    }
}

fn failed(plan: &NetDevice, action: &'static str, errno: Errno) -> Error {
    Error::Device { host_name: plan.host_name.clone(), action, errno }
}

/// Runs `work` with a socket of the network namespace. A socket belongs to the namespace in which
/// it is made, and the runtime never leaves its own, so a short-lived child does it.
fn in_network(
    network: BorrowedFd<'_>,
    devices: &[Device<'_>],
    work: impl FnOnce(&Socket, &[Device<'_>]) -> Result<(), Report>,
) -> Result<(), Error> {
    if devices.is_empty() {
        return Ok(());
    }
    let failed = |action| move |errno| Error::Netlink { action, errno };
    let (ours, theirs) = coracle_sys::socket_pair().map_err(failed("make a socket pair"))?;
    let clone = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    let pidfd = match clone.map_err(failed("clone a process"))? {
        Cloned::Parent { pidfd, .. } => pidfd,
        Cloned::Child => {
            let answer = join(network).and_then(|socket| work(&socket, devices));
            coracle_sys::exit(i32::from(tell(&theirs, answer).is_err()));
        }
    };
    drop(theirs);
    let mut bytes = [0; 6];
    let heard = coracle_sys::receive(ours.as_fd(), &mut bytes);
    coracle_sys::wait_exit(pidfd.as_fd()).map_err(failed("wait for the process"))?;
    match heard.map_err(failed("hear of the process"))? {
        (6, _) => read_report(bytes, devices),
        _ => Err(failed("hear of the process")(Errno::EPIPE)),
    }
}

fn join(network: BorrowedFd<'_>) -> Result<Socket, Report> {
    let report = |action| move |errno| Report { device: 0, action, errno };
    coracle_sys::setns(network, NamespaceFlags::NETWORK).map_err(report(Action::Join))?;
    Socket::open().map_err(report(Action::Socket))
}

fn tell(socket: &OwnedFd, answer: Result<(), Report>) -> nix::Result<()> {
    let mut bytes = [0; 6];
    if let Err(Report { device, action, errno }) = answer {
        let [a, b, c, d] = (errno as i32).to_ne_bytes();
        bytes = [device, action as u8, a, b, c, d];
    }
    coracle_sys::send(socket.as_fd(), &bytes, None).map(drop)
}

fn read_report(bytes: [u8; 6], devices: &[Device<'_>]) -> Result<(), Error> {
    let [device, number, errno @ ..] = bytes;
    let errno = Errno::from_raw(i32::from_ne_bytes(errno));
    let action = Action::ALL.into_iter().find(|action| *action as u8 == number);
    match (action, devices.get(usize::from(device))) {
        (Some(action), Some(device)) => Err(failed(device.plan, action.text(), errno)),
        _ => Ok(()),
    }
}

/// The child's work after the move.
fn set_up(socket: &Socket, devices: &[Device<'_>]) -> Result<(), Report> {
    for (device, place) in devices.iter().zip(0..) {
        let report = |action| move |errno| Report { device: place, action, errno };
        let index = index_inside(socket, device).map_err(report(Action::Find))?;
        for address in &device.addresses {
            socket.add(index, address).map_err(report(Action::Address))?;
        }
        socket.set(index, State::Up).map_err(report(Action::Up))?;
    }
    Ok(())
}

/// The index stays unless another device has it there. The name is known unless it is a template.
fn index_inside(socket: &Socket, device: &Device<'_>) -> nix::Result<u32> {
    let which = if device.plan.name.contains("%d") {
        Which::Index(device.index)
    } else {
        Which::Name(&device.plan.name)
    };
    socket.link(which).map(|link| link.index)
}

/// Namespaces that are joined by path outlive a failure, and a virtual device would die with one
/// that doesn't: back they go.
fn give_back(socket: &Socket, devices: &[Device<'_>], home: &OwnedFd) {
    for device in devices {
        if let Ok(index) = index_inside(socket, device) {
            let _ = socket.set(index, State::Down);
            let _ = socket.move_link(index, home.as_fd(), &device.plan.host_name);
        }
    }
}
