//! The unsettled part: every frame of the tip log, and every record of its blocks, forks too.

use alloy_primitives::keccak256;

use super::Check;
use super::cold::{length_fault, stream_fault};
use crate::error::Error;
use crate::format::{
    FRAME_HEAD_BYTES, FrameHead, Kind, PAGE_BYTES, SEGMENT_KINDS, align_page, record_crc,
};
use crate::frame::{self, Tail};
use crate::rlp;
use crate::tip::{TipBlock, TipFile, TipIndex};

impl Check<'_> {
    /// Checks the tip log, and fills the index from it.
    pub(super) fn tip(&mut self, file: &TipFile, index: &mut TipIndex) -> Result<(), Error> {
        self.report.files += 1;
        let scanned = frame::scan(file, index, true);
        let tail = self.keep(scanned)?;
        self.report.head = index.whole_head();
        let path = file.file.path();
        if let Some(Tail::Torn(what)) = &tail {
            self.notice(path, index.end, what.clone());
        }
        if tail.is_some() && index.head().is_none() && index.base() == 0 {
            self.problem(
                path,
                PAGE_BYTES,
                "the genesis block is not there: the first frame does not verify".into(),
            );
        }
        self.padding(file, index, tail.as_ref())?;
        for block in index.blocks() {
            let canonical = index
                .at(block.number)
                .is_some_and(|other| other.hash == block.hash);
            self.report.side_blocks += u64::from(!canonical);
            for kind in SEGMENT_KINDS {
                self.tip_record(file, index, block, kind)?;
            }
        }
        self.advance(index.end);
        Ok(())
    }

    /// Between frames, and behind the last if nothing or a closing frame is there, are zeros.
    fn padding(
        &mut self,
        file: &TipFile,
        index: &TipIndex,
        tail: Option<&Tail>,
    ) -> Result<(), Error> {
        let mut at = PAGE_BYTES;
        let mut gaps = Vec::new();
        while at < index.end {
            let mut head = [0; FRAME_HEAD_BYTES];
            file.file.read_at(at, &mut head)?;
            let end = at + FrameHead::decode(&head).length;
            at = align_page(end);
            gaps.push((end, at));
        }
        let end = match tail {
            Some(Tail::Clean) => Some(at),
            Some(Tail::Closed) => Some(at + FRAME_HEAD_BYTES as u64),
            _ => None,
        };
        if let Some(end) = end {
            gaps.push((end, file.file.len()?.max(end)));
        }
        let mut bytes = vec![0; 64 << 10];
        for (mut from, to) in gaps {
            while from < to {
                let part = bytes.len().min((to - from) as usize);
                let read = file.file.read_at(from, &mut bytes[..part])?;
                if let Some(i) = bytes[..read].iter().position(|&byte| byte != 0) {
                    self.notice(
                        file.file.path(),
                        from + i as u64,
                        "bytes outside the frames that are not zero".into(),
                    );
                }
                from += part as u64;
            }
        }
        Ok(())
    }

    fn tip_record(
        &mut self,
        file: &TipFile,
        index: &TipIndex,
        block: &TipBlock,
        kind: Kind,
    ) -> Result<(), Error> {
        let Some(place) = block.place(kind) else {
            if kind == Kind::Bodies {
                self.problem(
                    file.file.path(),
                    block.header.offset,
                    format!("block {} has no body", block.number),
                );
            }
            return Ok(());
        };
        // The frame's checksum has been checked, so the length is inside it.
        let mut stored = vec![0; place.stored as usize];
        let read = file.file.read_at(place.offset, &mut stored)?;
        stored.truncate(read);
        let crc = record_crc(block.number, kind, place.raw, &stored);
        let fault = if crc != place.crc {
            Some(format!(
                "checksum: expected {:08x}, found {crc:08x}",
                place.crc
            ))
        } else if kind == Kind::Headers {
            length_fault(place.raw, &stored).or_else(|| header_fault(index, block, &stored))
        } else {
            stream_fault(place.raw, &stored)
        };
        match fault {
            Some(what) => self.problem(
                file.file.path(),
                place.offset,
                format!("block {}: {what}", block.number),
            ),
            None => self.count(kind, u64::from(place.stored), u64::from(place.raw)),
        }
        Ok(())
    }
}

fn header_fault(index: &TipIndex, block: &TipBlock, header: &[u8]) -> Option<String> {
    let Some(fields) = rlp::fields(header) else {
        return Some("not the RLP of a header".to_owned());
    };
    if fields.number != block.number {
        return Some(format!("its header says block {}", fields.number));
    }
    let hash = keccak256(header);
    if hash != block.hash {
        return Some(format!("hash: expected {hash}, found {}", block.hash));
    }
    let before = index.td_before(block);
    let td = before.saturating_add(fields.difficulty);
    (td != block.td).then(|| format!("total difficulty: expected {td}, found {}", block.td))
}
