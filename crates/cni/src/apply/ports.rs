//! Checking that no program of the host uses a port that is to be published.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

use crate::error::Error;
use crate::plan::Plan;
use crate::plan::ports::HostPort;

/// Checks that no program of the host uses one of the ports: plugins redirect all traffic for a
/// published port, so it would no longer reach that program.
///
/// It tries bind(2), which applies the kernel's rules for addresses and families. The socket never
/// listens and is closed at once. A client's connection from that port also makes bind(2) fail, so
/// the kernel's tables are read to see whether a server uses the port. Other failures of bind(2),
/// such as for a privileged port, do not affect the plugins.
///
/// # Errors
/// [`Error::PortInUse`] for the first such port.
pub fn check_ports(plan: &Plan) -> Result<(), Error> {
    for port in plan.host_ports() {
        let addresses = match port.address {
            Some(address) => vec![address],
            None => vec![
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            ],
        };
        for address in addresses {
            if try_bind(&port, address) == Err(Errno::EADDRINUSE) && is_served(&port) {
                return Err(Error::PortInUse {
                    port: port.to_string(),
                });
            }
        }
    }
    Ok(())
}

/// Whether a socket at the port accepts traffic from any peer, by the tables of the runtime's
/// network namespace: proc_net(5). If they cannot be read, it is assumed.
fn is_served(port: &HostPort) -> bool {
    let tables = [port.protocol.clone(), format!("{}6", port.protocol)];
    tables.iter().any(|table| {
        let Ok(text) = std::fs::read_to_string(format!("/proc/self/net/{table}")) else {
            // A kernel without IPv6 has no second table.
            return !table.ends_with('6');
        };
        text.lines().any(|line| is_waiting(line, port.number))
    })
}

/// `0: 0100007F:0016 00000000:0000 0A …`: the local address and port, the peer's, the state. TCP
/// listens in state 0A; UDP is in state 07 unless it is connected.
fn is_waiting(line: &str, number: u16) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let (Some(local), _, Some(state)) = (fields.next(), fields.next(), fields.next()) else {
        return false;
    };
    let port = local.rsplit_once(':').map(|(_, port)| port);
    let port = port.and_then(|port| u16::from_str_radix(port, 16).ok());
    port == Some(number) && matches!(state, "0A" | "07")
}

fn try_bind(port: &HostPort, address: IpAddr) -> nix::Result<()> {
    let kind = match port.protocol.as_str() {
        "tcp" => SockType::Stream,
        "udp" => SockType::Datagram,
        // A socket for SCTP would load a kernel module.
        _ => return Ok(()),
    };
    let family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        // Without this option an IPv6 socket also covers IPv4 addresses.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        // Connections that have ended, and those of clients, do not conflict.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    let address = SockaddrStorage::from(SocketAddr::new(address, port.number));
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_counts() {
        let rest = "00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0";
        for (line, waits) in [
            ("  sl  local_address rem_address   st tx_queue", false),
            ("   0: 0100007F:1F90 00000000:0000 0A", true),
            (
                "   1: 00000000000000000000000000000000:1F90 0000:0000 0A",
                true,
            ),
            ("   2: 0100007F:1F90 0100007F:0016 01", false),
            ("   3: 0100007F:1F91 00000000:0000 0A", false),
            (" 412: 00000000:1F90 00000000:0000 07", true),
            ("", false),
        ] {
            assert_eq!(is_waiting(&format!("{line} {rest}"), 8080), waits, "{line}");
        }
    }
}
