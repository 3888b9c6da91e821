//! Names of era1 files, which say what is inside.

use std::fmt;
use std::path::Path;

use alloy_primitives::hex;

use crate::chain::Genesis;

/// `<network>-<era>-<first four bytes of the accumulator root>.era1`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EraName {
    /// The network: `mainnet`, `sepolia`.
    pub network: String,
    /// The number of its first block, divided by 8192.
    pub era: u64,
    /// How its accumulator root begins.
    pub root: [u8; 4],
}

/// What era1 files call the network of `genesis`: `mainnet`, `sepolia`, and a chain without a name `chain` and its id.
pub fn network(genesis: &Genesis) -> String {
    let hash = genesis.header.hash;
    let known = [
        ("mainnet", Genesis::mainnet()),
        ("sepolia", Genesis::sepolia()),
    ];
    let found = known
        .into_iter()
        .find(|(_, known)| known.header.hash == hash);
    match found {
        Some((name, _)) => name.into(),
        None => format!("chain{}", genesis.spec.chain_id),
    }
}

impl EraName {
    /// Whether a file of that name may be of the network. Only the names of networks that are known say anything.
    pub fn is_of(&self, network: &str) -> bool {
        let is_known = |name: &str| matches!(name, "mainnet" | "sepolia");
        self.network == network || !is_known(&self.network) && !is_known(network)
    }

    /// What the name of the file says; `None` if it is not of that form and so says nothing.
    pub fn of(path: &Path) -> Option<EraName> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".era1")?;
        let mut parts = stem.rsplitn(3, '-');
        let (root, era, network) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = era.len() >= 5 && era.bytes().all(|byte| byte.is_ascii_digit());
        if network.is_empty() || !digits || root.len() != 8 {
            return None;
        }
        Some(EraName {
            network: network.into(),
            era: era.parse().ok()?,
            root: hex::decode_to_array(root).ok()?,
        })
    }
}

impl fmt::Display for EraName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EraName { network, era, root } = self;
        write!(f, "{network}-{era:05}-{}.era1", hex::encode(root))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_says_network_era_and_root_and_is_written_as_it_was_read() {
        for name in [
            "mainnet-00000-5ec1ffb8.era1",
            "sepolia-00021-b8814b14.era1",
            "a-b-123456-00000000.era1",
        ] {
            let read = EraName::of(&Path::new("/some/folder").join(name)).unwrap();
            assert_eq!(read.to_string(), name);
        }
        let name = EraName::of(Path::new("sepolia-00021-b8814b14.era1")).unwrap();
        let EraName { network, era, root } = name;
        assert_eq!((&network[..], era), ("sepolia", 21));
        assert_eq!(root, [0xb8, 0x81, 0x4b, 0x14]);
    }

    #[test]
    fn a_known_networks_name_is_its_own() {
        assert_eq!(network(&Genesis::mainnet()), "mainnet");
        assert_eq!(network(&Genesis::sepolia()), "sepolia");
        assert_eq!(network(&Genesis::dev()), "chain1337");
        let name = |name| EraName::of(Path::new(name)).unwrap();
        let mainnet = name("mainnet-00000-5ec1ffb8.era1");
        assert!(mainnet.is_of("mainnet"));
        assert!(!mainnet.is_of("sepolia") && !mainnet.is_of("chain1337"));
        let own = name("ours-00000-5ec1ffb8.era1");
        assert!(own.is_of("chain1337") && !own.is_of("sepolia"));
    }

    #[test]
    fn other_names_say_nothing() {
        for name in [
            "mainnet-00000-5ec1ffb8.era",
            "mainnet-00000-5ec1ffb8",
            "mainnet-0000-5ec1ffb8.era1",
            "mainnet-+0000-5ec1ffb8.era1",
            "mainnet-00000-5ec1ffb.era1",
            "mainnet-00000-5ec1ffbg.era1",
            "mainnet-00000-0x5ec1ff.era1",
            "-00000-5ec1ffb8.era1",
            "00000-5ec1ffb8.era1",
            "blocks.era1",
            "..",
        ] {
            assert_eq!(EraName::of(Path::new(name)), None, "{name}");
        }
    }
}
