//! The chains that are known without a genesis.json: mainnet, Sepolia and the development chain.

use alloy_consensus::Header;
use alloy_primitives::{B64, B256, Bytes, U256, b256, hex};

use super::Genesis;
use crate::chain::spec::{Forks, Spec};

const MAINNET_HASH: B256 =
    b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");
const SEPOLIA_HASH: B256 =
    b256!("25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9");

/// Keys that everybody knows, the first ten of hardhat's and anvil's. The development chain funds their accounts.
pub const DEV_KEYS: [[u8; 32]; 10] = [
    DEV_SIGNER_KEY,
    hex!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
    hex!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
    hex!("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"),
    hex!("47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a"),
    hex!("8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba"),
    hex!("92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e"),
    hex!("4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356"),
    hex!("dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97"),
    hex!("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6"),
];

/// The key of the development chain's one signer, 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266. Everybody knows it.
pub const DEV_SIGNER_KEY: [u8; 32] =
    hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");

impl Genesis {
    /// Ethereum's main network, by its header: the accounts of its genesis are not here, their state root is.
    pub fn mainnet() -> Self {
        let forks = Forks {
            homestead: Some(1_150_000),
            dao: Some(1_920_000),
            dao_support: true,
            eip150: Some(2_463_000),
            eip155: Some(2_675_000),
            eip158: Some(2_675_000),
            byzantium: Some(4_370_000),
            constantinople: Some(7_280_000),
            petersburg: Some(7_280_000),
            istanbul: Some(9_069_000),
            muir_glacier: Some(9_200_000),
            berlin: Some(12_244_000),
            london: Some(12_965_000),
            arrow_glacier: Some(13_773_000),
            gray_glacier: Some(15_050_000),
            merge_netsplit: None,
            shanghai_time: Some(1_681_338_455),
            cancun_time: Some(1_710_338_135),
            prague_time: Some(1_746_612_311),
            osaka_time: Some(1_764_798_551),
            bpo_times: [Some(1_765_290_071), Some(1_767_747_671), None, None, None],
            amsterdam_time: None,
        };
        let mut spec = Spec::new(U256::ONE, forks);
        spec.terminal_total_difficulty = Some(U256::from(58_750_000_000_000_000_000_000_u128));
        let header = Header {
            state_root: b256!("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544"),
            difficulty: U256::from(17_179_869_184_u64),
            gas_limit: 5_000,
            extra_data: Bytes::from_static(&hex!(
                "11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa"
            )),
            nonce: B64::from(0x42_u64.to_be_bytes()),
            ..Header::default()
        };
        Self::new(spec, header, Vec::new())
    }

    /// The test network Sepolia, by its header.
    pub fn sepolia() -> Self {
        let forks = Forks {
            homestead: Some(0),
            eip150: Some(0),
            eip155: Some(0),
            eip158: Some(0),
            byzantium: Some(0),
            constantinople: Some(0),
            petersburg: Some(0),
            istanbul: Some(0),
            muir_glacier: Some(0),
            berlin: Some(0),
            london: Some(0),
            merge_netsplit: Some(1_735_371),
            shanghai_time: Some(1_677_557_088),
            cancun_time: Some(1_706_655_072),
            prague_time: Some(1_741_159_776),
            osaka_time: Some(1_760_427_360),
            bpo_times: [Some(1_761_017_184), Some(1_761_607_008), None, None, None],
            amsterdam_time: Some(1_791_294_816),
            ..Forks::default()
        };
        let mut spec = Spec::new(U256::from(11_155_111), forks);
        spec.terminal_total_difficulty = Some(U256::from(17_000_000_000_000_000_u64));
        let header = Header {
            state_root: b256!("5eb6e371a698b8d68f665192350ffcecbbbf322916f4b51bd79bb6887da3f494"),
            difficulty: U256::from(0x20000),
            gas_limit: 30_000_000,
            timestamp: 1_633_267_481,
            extra_data: Bytes::from_static(b"Sepolia, Athens, Attica, Greece!"),
            base_fee_per_gas: Some(1_000_000_000),
            ..Header::default()
        };
        Self::new(spec, header, Vec::new())
    }

    /// The development chain: clique with a period of one second and one signer, whose key is [`DEV_SIGNER_KEY`].
    pub fn dev() -> Self {
        Self::from_json(Self::dev_json().as_bytes()).expect("the built-in genesis.json is valid")
    }

    /// The development chain's genesis.json.
    pub fn dev_json() -> &'static str {
        include_str!("dev.json")
    }

    /// The built-in chain whose first block has that hash, if there is one.
    pub fn builtin(hash: B256) -> Option<Self> {
        match hash {
            MAINNET_HASH => Some(Self::mainnet()),
            SEPOLIA_HASH => Some(Self::sepolia()),
            _ => Some(Self::dev()).filter(|dev| dev.header.hash == hash),
        }
    }
}
