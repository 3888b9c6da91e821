//! Stub: NET-B's.
#![allow(missing_docs)]
use crate::eth::DecodeError;
use alloy_eip2124::{ForkFilter, ForkId};
use alloy_primitives::{B256, U256};
use alloy_rlp::{Decodable, Encodable, Header};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub version: u8,
    pub network_id: u64,
    pub genesis: B256,
    pub fork_id: ForkId,
    pub td: Option<U256>,
    pub head: B256,
    pub earliest: Option<u64>,
    pub latest: Option<u64>,
}
#[derive(Clone, Debug)]
pub struct LocalChain {
    pub network_id: u64,
    pub genesis: B256,
    pub fork_filter: ForkFilter,
    pub head_number: u64,
    pub head: B256,
    pub td: U256,
    pub earliest: u64,
}
impl Status {
    pub fn ours(chain: &LocalChain, version: u8) -> Status {
        let old = version == 68;
        Status {
            version,
            network_id: chain.network_id,
            genesis: chain.genesis,
            fork_id: chain.fork_filter.current(),
            td: old.then_some(chain.td),
            head: chain.head,
            earliest: (!old).then_some(chain.earliest),
            latest: (!old).then_some(chain.head_number),
        }
    }
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut p = Vec::new();
        self.version.encode(&mut p);
        self.network_id.encode(&mut p);
        if let Some(td) = self.td {
            td.encode(&mut p);
            self.head.encode(&mut p);
            self.genesis.encode(&mut p);
            self.fork_id.encode(&mut p);
        } else {
            self.genesis.encode(&mut p);
            self.fork_id.encode(&mut p);
            self.earliest.unwrap_or(0).encode(&mut p);
            self.latest.unwrap_or(0).encode(&mut p);
            self.head.encode(&mut p);
        }
        Header {
            list: true,
            payload_length: p.len(),
        }
        .encode(out);
        out.extend_from_slice(&p);
    }
    pub fn decode(version: u8, payload: &[u8]) -> Result<Status, DecodeError> {
        let mut p = payload;
        let mut b = Header::decode_bytes(&mut p, true)?;
        let b = &mut b;
        let v = u8::decode(b)?;
        let network_id = u64::decode(b)?;
        if version == 68 {
            let td = U256::decode(b)?;
            let head = B256::decode(b)?;
            let genesis = B256::decode(b)?;
            let fork_id = ForkId::decode(b)?;
            Ok(Status {
                version: v,
                network_id,
                genesis,
                fork_id,
                td: Some(td),
                head,
                earliest: None,
                latest: None,
            })
        } else {
            let genesis = B256::decode(b)?;
            let fork_id = ForkId::decode(b)?;
            let earliest = u64::decode(b)?;
            let latest = u64::decode(b)?;
            let head = B256::decode(b)?;
            Ok(Status {
                version: v,
                network_id,
                genesis,
                fork_id,
                td: None,
                head,
                earliest: Some(earliest),
                latest: Some(latest),
            })
        }
    }
}
