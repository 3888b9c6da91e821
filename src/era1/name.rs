//! Names of era1 files, which say what is inside.

use std::fmt;
use std::path::Path;

use alloy_primitives::hex;

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

impl EraName {
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
