//! Which addresses a webhook may have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that mail may be posted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// All of them: who set the destination may reach them anyway.
    Anywhere,
    /// Those of inner networks, too, but never this host, its link and the cloud's metadata: a name that somebody
    /// found to be a Service's may lead elsewhere by the time of the connection.
    Inner,
    /// Those of the public Internet alone. Whoever sets the destination cannot use the daemon to reach hosts
    /// of the cluster, of the cloud's metadata or of the node.
    Public,
}

/// What no destination of others may be: this host and nobody (RFC 1122), its link (RFC 3927), where most clouds
/// have their metadata, multicast and what is reserved (RFC 1112); then metadata elsewhere: of Alibaba, of Azure
/// (its wire server), of Oracle.
const NEVER_V4: [(Ipv4Addr, u32); 8] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(192, 0, 0, 192), 32),
];

/// The same: nobody, this host and IPv4 in a form that was given up (RFC 4291); IPv4 by translators of a network of
/// one's own (RFC 2765, RFC 8215), by Teredo and by 6to4, behind which any address may be; links and sites (RFC 3879),
/// multicast; then metadata of AWS, Google, Oracle, Scaleway, Akamai, Alibaba.
const NEVER_V6: [(Ipv6Addr, u32); 14] = [
    (Ipv6Addr::UNSPECIFIED, 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128),
    (Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128),
    (Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128),
    (Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1), 128),
    (Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200), 128),
];

/// What else RFC 6890 and its registry of special-purpose addresses keep from the public Internet.
const SPECIAL_V4: [(Ipv4Addr, u32); 10] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
];

/// All that is public.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Of that, what else is not: protocol assignments and documentation.
const SPECIAL_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Behind which translators have IPv4 addresses that must be public (RFC 6052 section 2.1).
const TRANSLATED: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

impl Reach {
    /// Whether a connection to this address is permitted.
    #[must_use]
    pub fn permits(self, address: IpAddr) -> bool {
        let address = plain(address);
        match self {
            Self::Anywhere => true,
            Self::Inner => !is_never(address),
            Self::Public => !is_never(address) && is_public(address),
        }
    }
}

/// The IPv4 address where an IPv6 address only stands for one.
fn plain(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if is_in(address, TRANSLATED) => {
            let [.., a, b, c, d] = address.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        address => address,
    }
}

fn is_never(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => NEVER_V4.iter().any(|network| is_in_v4(address, *network)),
        IpAddr::V6(address) => NEVER_V6.iter().any(|network| is_in(address, *network)),
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| is_in_v4(address, *network)),
        IpAddr::V6(address) => {
            is_in(address, GLOBAL_V6) && !SPECIAL_V6.iter().any(|network| is_in(address, *network))
        }
    }
}

fn is_in_v4(address: Ipv4Addr, (network, length): (Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0
}

fn is_in(address: Ipv6Addr, (network, length): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (128 - length) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which addresses are within reach, of `[Anywhere, Inner, Public]`.
    fn check(texts: &[&str], permitted: [bool; 3]) {
        for text in texts {
            let address: IpAddr = text.parse().unwrap();
            let found = [Reach::Anywhere, Reach::Inner, Reach::Public].map(|reach| reach.permits(address));
            assert_eq!(found, permitted, "{text}");
        }
    }

    #[test]
    fn the_internet_is_within_every_reach() {
        let texts = [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ];
        check(&texts, [true; 3]);
    }

    #[test]
    fn inner_networks_are_within_reach_where_that_is_allowed() {
        let texts = [
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.199",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.193",
            "192.168.1.1",
            "198.19.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "fc00::1",
            "fd00:ec1::254",
            "fd20:ce::253",
            "2001:db8::1",
            "2001:1::1",
        ];
        check(&texts, [true, true, false]);
    }

    #[test]
    fn the_host_its_link_and_metadata_are_within_no_reach_of_others() {
        let texts = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.1",
            "169.254.169.254",
            "169.254.170.23",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:127.0.0.1",
            "::ffff:168.63.129.16",
            "::ffff:169.254.169.254",
            "::ffff:224.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::168.63.129.16",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::a9fe:a9fe",
            "2001::1",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::1",
            "2002:808:808::1",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
        ];
        check(&texts, [true, false, false]);
    }
}
