//! Judges answers with receipts: each block's against its header, in the form of the peer's version, over several answers if need be.

use std::sync::Arc;

use alloy_primitives::B256;
use bytes::Bytes;
use cairn_net::eth::message::Request;
use cairn_net::reactor::PeerId;
use cairn_net::session::AnswerKind;

use super::Receipts;
use crate::chain::receipts::{Form, Receipts as List, ReceiptsError};
use crate::chain::{SealedHeader, rlp};
use crate::sync::boundary::Now;
use crate::sync::fault::Fault;
use crate::sync::limits::{GAS_PER_RECEIPT_BYTE, PARTS_OF_BLOCK};
use crate::sync::machine::Machine;
use crate::sync::peers::{Part, What, learn_pace};

impl Machine {
    /// An answer with receipts.
    pub(in crate::sync) fn receipts_answer(
        &mut self,
        now: Now,
        id: PeerId,
        request: u64,
        mut blocks: Vec<Bytes>,
        last_is_cut: bool,
    ) -> Result<(), Fault> {
        let asked = self.settle(now, id, request, AnswerKind::Receipts)?;
        let What::Receipts { wanted, part } = asked.what else {
            return Ok(()); // settled by its kind
        };
        if asked.given_up {
            return Ok(()); // others have been asked, and what was here of it is gone
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            let took_ms = now.ms.saturating_sub(asked.sent_ms);
            learn_pace(&mut peer.receipt_rate, blocks.len(), took_ms);
        }
        self.release_receipts(&wanted);
        if blocks.len() > wanted.len() {
            return Err(Fault::TooManyItems {
                allowed: wanted.len(),
                found: blocks.len(),
            });
        }
        let form = match self.peers.get(&id).map(|peer| peer.info.eth) {
            Some(68) => Form::Eth68,
            _ => Form::Eth69,
        };
        if blocks.is_empty() {
            self.refuse_receipts(&wanted, id);
            return Ok(());
        }
        let cut = if last_is_cut { blocks.pop() } else { None };
        let (found, bytes) = (blocks.len(), blocks.iter().map(Bytes::len).sum());
        let mut part = Some(part).filter(|part| part.count > 0);
        let mut rest = &wanted[..];
        for raw in blocks {
            let raw = match part.take() {
                Some(part) => part.whole(&raw).map_err(|why| bad(rest, why))?,
                None => raw,
            };
            rest = self.match_receipts(id, form, rest, &raw)?;
        }
        if let Some(receipts) = &mut self.receipts {
            receipts.size.learn(found, bytes);
        }
        let Some(raw) = cut else {
            return Ok(());
        };
        if rest.is_empty() {
            return Err(bad(&wanted, "more behind those of the last block".into()));
        }
        let mut part = part.unwrap_or_default();
        part.add(form, &raw).map_err(|why| bad(rest, why))?;
        self.go_on(now, id, rest, part)
    }

    /// Takes one block's receipts, which are those of the first that is wanted, or of one behind it if the peer leaves out what it
    /// lacks. Gives what is wanted behind that.
    fn match_receipts<'a>(
        &mut self,
        id: PeerId,
        form: Form,
        wanted: &'a [Arc<SealedHeader>],
        raw: &[u8],
    ) -> Result<&'a [Arc<SealedHeader>], Fault> {
        let list = List::decode(form, raw).map_err(|error| bad(wanted, error.to_string()))?;
        let root = list.root();
        let is_of = |header: &Arc<SealedHeader>| header.header.receipts_root == root;
        let Some(skipped) = wanted.iter().position(is_of) else {
            let why = format!("the root {root} is of no block that was asked for");
            return Err(bad(wanted, why));
        };
        self.refuse_receipts(&wanted[..skipped], id);
        let header = &wanted[skipped];
        match self.rules.check_receipts(header, &list) {
            Ok(()) => {
                let kept = Bytes::from(list.encode(Form::Eth69));
                if let Some(receipts) = &mut self.receipts {
                    receipts.queue.fill(header, kept);
                }
            }
            Err(ReceiptsError::Invalid(fault)) => {
                // The header commits to them and contradicts them: nobody has better ones.
                log::warn!("Receipts that contradict their own header are not kept: {fault}");
                self.refuse_receipts(std::slice::from_ref(header), id);
            }
            Err(error) => return Err(bad(&wanted[skipped..], error.to_string())),
        }
        Ok(&wanted[skipped + 1..])
    }

    /// The first of `wanted` was cut: keeps what is here of it and asks the same peer for the rest.
    fn go_on(
        &mut self,
        now: Now,
        id: PeerId,
        wanted: &[Arc<SealedHeader>],
        part: Part,
    ) -> Result<(), Fault> {
        let Some(header) = wanted.first() else {
            return Ok(());
        };
        let bytes = part.items.len();
        let allowed = header.header.gas_used / GAS_PER_RECEIPT_BYTE;
        if bytes as u64 > allowed {
            let why = format!("{bytes} bytes and more to come, where its gas allows {allowed}");
            return Err(bad(wanted, why));
        }
        let used = self.receipt_bytes();
        let (limit_bytes, answer_bytes) =
            (self.config.receipt_bytes(), self.config.limits.answer_bytes);
        let Some(receipts) = &mut self.receipts else {
            return Ok(());
        };
        // The first block is waited for by all others; it may take as much as the bodies may.
        let is_front = receipts.queue.is_front(header);
        let most = match is_front {
            true => self.config.memory_limit_bytes,
            false => limit_bytes.saturating_sub(used),
        };
        if bytes + answer_bytes > most {
            match is_front {
                true => self.refuse_receipts(std::slice::from_ref(header), id),
                false => receipts.queue.wait_for_front(header),
            }
            return Ok(());
        }
        let wanted = receipts.claim(wanted);
        if wanted.first().map(|first| first.hash) != Some(header.hash) {
            self.release_receipts(&wanted);
            return Ok(()); // it is ours no more, or others were faster
        }
        let hashes: Vec<B256> = wanted.iter().map(|header| header.hash).collect();
        let request = Request::Receipts {
            hashes,
            first_index: part.count,
        };
        let what = What::Receipts { wanted, part };
        self.ask(now, id, what, request, bytes + answer_bytes);
        Ok(())
    }

    fn refuse_receipts(&mut self, wanted: &[Arc<SealedHeader>], id: PeerId) {
        if let Some(receipts) = &mut self.receipts {
            for header in wanted {
                receipts.queue.refuse(header, id);
            }
        }
    }
}

impl Receipts {
    /// Marks these as asked for again, as far as they still wait and nobody else is asked.
    fn claim(&mut self, wanted: &[Arc<SealedHeader>]) -> Vec<Arc<SealedHeader>> {
        let mut claimed = wanted.to_vec();
        claimed.retain(|header| self.queue.claim(header));
        claimed
    }
}

impl Part {
    /// Adds the list of an answer that was cut again.
    fn add(&mut self, form: Form, raw: &[u8]) -> Result<(), String> {
        let list = List::decode(form, raw).map_err(|error| error.to_string())?;
        if list.is_empty() {
            return Err("cut before its next receipt".into());
        }
        self.answers += 1;
        if self.answers > PARTS_OF_BLOCK {
            return Err(format!("not whole after {PARTS_OF_BLOCK} answers"));
        }
        self.count += list.len() as u64;
        self.items.extend_from_slice(payload(raw)?);
        Ok(())
    }

    /// The whole list, with that of the last answer.
    fn whole(mut self, raw: &[u8]) -> Result<Bytes, String> {
        self.items.extend_from_slice(payload(raw)?);
        let mut whole = Vec::with_capacity(self.items.len() + 9);
        rlp::list_prefix(&mut whole, self.items.len());
        whole.extend_from_slice(&self.items);
        Ok(whole.into())
    }
}

fn payload(mut raw: &[u8]) -> Result<&[u8], String> {
    rlp::list(&mut raw).map_err(|error| format!("receipts: {error}"))
}

fn bad(wanted: &[Arc<SealedHeader>], why: String) -> Fault {
    let number = wanted.first().map_or(0, |header| header.header.number);
    Fault::BadReceipts { number, why }
}
