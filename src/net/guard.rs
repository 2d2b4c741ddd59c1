//! Which addresses may be connected to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Which addresses user-given names may lead to.
///
/// Refused are addresses that reach this host, its link or its cloud's metadata service, and those listed (the API server), in
/// every notation and in the IPv6 forms that embed an IPv4 address. The operator's allow list comes before all of that.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow: Vec<Cidr>,
    deny: Vec<IpAddr>,
}

/// Why an address may not be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {address} is {reason}, which the operator's settings do not allow")]
pub struct Refusal {
    /// The address that the name resolved to.
    pub address: IpAddr,
    /// What it is.
    pub reason: &'static str,
}

/// Addresses at which clouds answer with credentials and which are not link-local.
/// AWS: fd00:ec2::254, GCP: fd20:ce::254, Alibaba: 100.100.100.200, Azure: 168.63.129.16.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

impl Guard {
    /// A guard that lets through what `allow` holds, and refuses `deny` beside what is always refused.
    pub fn new(allow: Vec<Cidr>, deny: Vec<IpAddr>) -> Self {
        Self { allow, deny: deny.into_iter().map(plain).collect() }
    }

    /// Whether a connection to `address` may be made.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        let plain = plain(address);
        if self.allow.iter().any(|range| range.contains(plain)) {
            return Ok(());
        }
        let reason = if self.deny.contains(&plain) { Some("the API server's") } else { reason(plain) };
        match reason {
            Some(reason) => Err(Refusal { address, reason }),
            None => Ok(()),
        }
    }
}

fn reason(address: IpAddr) -> Option<&'static str> {
    if METADATA.contains(&address) {
        return Some("a cloud's metadata service");
    }
    match address {
        // 0.0.0.0/8 is "this host" (RFC 1122), and Linux connects 0.0.0.0 to itself.
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("unspecified"),
        IpAddr::V4(v4) if v4.is_loopback() => Some("loopback"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Some("multicast"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("unspecified"),
        IpAddr::V6(v6) if v6.is_loopback() => Some("loopback"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("multicast"),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address stands for, if it does: mapped (`::ffff:0:0/96`), compatible (`::/96`), NAT64
/// (`64:ff9b::/96`) and 6to4 (`2002::/16`).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        // `::` and `::1` are of this range as well and keep their own meaning.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => v4(high, low),
        _ => address,
    }
}

/// A range of addresses, such as `10.0.0.0/8` or `fd00::/8`; a lone address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    length: u8,
}

/// Why a text is no [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of addresses: write it like 10.0.0.0/8 or fd00::/8")]
pub struct ParseCidrError(String);

impl Cidr {
    /// Whether `address` is in the range. Families are told apart.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                u32::from(base) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
                u128::from(base) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseCidrError(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(most);
        if length > most {
            return Err(wrong());
        }
        Ok(Self { base, length })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("a range")
    }

    #[test]
    fn addresses_of_this_host_its_link_and_its_cloud_are_refused() {
        let guard = Guard::new(vec![], vec![ip("10.96.0.1")]);
        for (address, reason) in [
            ("127.0.0.1", "loopback"),
            ("127.8.9.1", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::127.0.0.1", "loopback"),
            ("64:ff9b::7f00:1", "loopback"),
            ("2002:7f00:1::", "loopback"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("::", "unspecified"),
            ("169.254.169.254", "link-local"),
            ("::ffff:169.254.169.254", "link-local"),
            ("fe80::1", "link-local"),
            ("fd00:ec2::254", "a cloud's metadata service"),
            ("100.100.100.200", "a cloud's metadata service"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "multicast"),
            ("ff02::1", "multicast"),
            ("10.96.0.1", "the API server's"),
            ("::ffff:10.96.0.1", "the API server's"),
        ] {
            assert_eq!(guard.check(ip(address)).map_err(|refusal| refusal.reason), Err(reason), "{address}");
        }
    }

    #[test]
    fn addresses_of_the_cluster_and_of_the_world_are_let_through() {
        let guard = Guard::new(vec![], vec![ip("10.96.0.1")]);
        for address in ["10.0.0.7", "192.168.1.1", "93.184.216.34", "2606:2800:220:1::1", "fd00::7", "10.96.0.2"] {
            assert_eq!(guard.check(ip(address)), Ok(()), "{address}");
        }
    }

    #[test]
    fn the_allow_list_comes_first() {
        let guard = Guard::new(vec![cidr("127.0.0.0/8"), cidr("10.96.0.1")], vec![ip("10.96.0.1")]);
        assert_eq!(guard.check(ip("127.0.0.1")), Ok(()));
        assert_eq!(guard.check(ip("::ffff:127.0.0.1")), Ok(()));
        assert_eq!(guard.check(ip("10.96.0.1")), Ok(()));
        assert!(guard.check(ip("::1")).is_err());
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/x", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
        assert!(cidr("0.0.0.0/0").contains(ip("8.8.8.8")));
        assert!(cidr("::/0").contains(ip("2001:db8::1")));
    }

    proptest! {
        #[test]
        fn an_embedded_address_is_judged_like_the_plain_one(bits in any::<u32>()) {
            let guard = Guard::default();
            let v4 = Ipv4Addr::from(bits);
            let plain = guard.check(IpAddr::V4(v4)).map_err(|refusal| refusal.reason);
            let mapped = guard.check(IpAddr::V6(v4.to_ipv6_mapped())).map_err(|refusal| refusal.reason);
            prop_assert_eq!(plain, mapped);
        }
    }
}
