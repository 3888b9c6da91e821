//! Judges answers against what was asked of that peer, and hands what is good on.

use std::sync::Arc;

use bytes::Bytes;
use cairn_net::reactor::PeerId;
use cairn_net::session::AnswerKind;

use super::boundary::{ChainView, Now};
use super::fault::Fault;
use super::headers::Got;
use super::limits::{EMPTY_CLAIM_MS, EMPTY_CLAIMS_ALLOWED, HEADERS_LEAST, STALL_FORGIVEN_AFTER};
use super::machine::Machine;
use super::peers::{Asked, What, learn_pace};
use super::target::Target;
use crate::chain::{BodyError, Rules, SealedHeader, body};

impl Machine {
    /// Takes the request that this answer belongs to off the list of what the peer owes.
    pub(super) fn settle(
        &mut self,
        now: Now,
        id: PeerId,
        request: u64,
        kind: AnswerKind,
    ) -> Result<Asked, Fault> {
        let unasked = Fault::UnaskedAnswer { id: request };
        let Some(peer) = self.peers.get_mut(&id) else {
            return Err(unasked);
        };
        let Some(asked) = peer.asked.get(&request) else {
            return Err(unasked);
        };
        if asked.what.answer_kind() != kind {
            return Err(unasked);
        }
        peer.heard_ms = now.ms;
        peer.good_answers += 1;
        if peer.good_answers >= STALL_FORGIVEN_AFTER {
            peer.stalls = 0;
        }
        peer.asked.remove(&request).ok_or(unasked)
    }

    /// An answer with headers.
    pub(super) fn headers_answer(
        &mut self,
        now: Now,
        id: PeerId,
        request: u64,
        raw: Vec<Bytes>,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        let heard_ms = self.peers.get(&id).map_or(0, |peer| peer.heard_ms);
        let asked = self.settle(now, id, request, AnswerKind::Headers)?;
        let judged = judge_headers(&self.rules, &asked.what, raw);
        let headers = match judged {
            Ok(headers) => headers,
            Err(fault) => {
                self.release(asked);
                return Err(fault);
            }
        };
        let is_many = matches!(asked.what, What::Rising { .. } | What::Falling { .. });
        if let Some(peer) = self.peers.get_mut(&id).filter(|_| is_many) {
            let took_ms = now.ms.saturating_sub(asked.sent_ms.max(heard_ms));
            learn_pace(&mut peer.header_rate, headers.len(), took_ms);
        }
        match asked.what {
            What::Rising {
                epoch,
                first,
                count,
            } => self.rising_answer(id, epoch, (first, count), headers, asked.given_up),
            What::Head { hash } => {
                if let Some(peer) = self
                    .peers
                    .get_mut(&id)
                    .filter(|peer| peer.head.hash == hash)
                {
                    match headers.first() {
                        Some(header) => peer.head.number = Some(header.header.number),
                        None => {
                            peer.judged = Some(hash);
                            return self.empty_claim(id);
                        }
                    }
                }
                Ok(())
            }
            What::Poll { count, .. } => {
                if let (Some(header), Some(peer)) = (headers.last(), self.peers.get_mut(&id)) {
                    let number = header.header.number;
                    // It has what it lacked, or what our clock did not let us take: one that was wrong may be right by now.
                    if peer.lacks_from.is_some_and(|lacks| lacks <= number) {
                        peer.lacks_from = None;
                        peer.judged = None; // by what there was to be had of it then
                    }
                    let is_other = peer.head.hash != header.hash; // in the place of the one that it had
                    let is_news = |known| known < number || (known == number && is_other);
                    if peer.head.number.is_none_or(is_news) {
                        peer.claim(number, header.hash, None);
                        // Only after news: one whose branch was refused would be polled without end.
                        if headers.len() as u64 == count {
                            self.poll_more = Some(id);
                        }
                    }
                }
                Ok(())
            }
            What::FetchHeader { hash } => {
                self.fetched_header(now, id, hash, headers.into_iter().next(), chain)
            }
            What::Ancestor { top, count } => {
                self.ancestor_answer(now, id, (top, count), &headers, chain)
            }
            What::Falling { hash, .. } => {
                self.falling_answer(now, id, hash, headers, asked.given_up, chain)
            }
            What::Bodies { .. } | What::FetchBody { .. } | What::Receipts { .. } => Ok(()),
        }
    }

    fn rising_answer(
        &mut self,
        id: PeerId,
        epoch: u64,
        (first, count): (u64, u64),
        headers: Vec<Arc<SealedHeader>>,
        given_up: bool,
    ) -> Result<(), Fault> {
        let found = headers.len() as u64;
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        let begins_above = found == 0 && peer.begins_above(first);
        let first_empty = found == 0 && peer.lacks_from.is_none() && !begins_above;
        if begins_above {
            log::warn!(
                "Peer begins with block {} and has nothing from {first} on peer={}: connect to one that has the chain from its first block \
                 (--bootnodes), or begin at a checkpoint too (--checkpoint)",
                peer.first_header,
                id.0
            );
        } else if found == 0 {
            // Only what it has been shown to lack, not what it may have got since: a new claim clears this.
            peer.lacks_from = Some(peer.lacks_from.map_or(first, |lacks| lacks.min(first)));
        } else if found < count {
            peer.header_cap = found.max(HEADERS_LEAST);
        } else {
            peer.header_cap = peer.header_cap.max(count.saturating_mul(2));
        }
        if let Some(pipe) = self.pipe(epoch) {
            if !given_up {
                pipe.headers.give_back(first + found, count - found);
            }
            if found > 0 {
                pipe.headers.put(first, Got { peer: id, headers });
            }
        }
        if first_empty {
            return self.empty_claim(id); // once for each claim
        }
        Ok(())
    }

    /// A peer did not have what it claims. Once is an accident.
    pub(super) fn empty_claim(&mut self, id: PeerId) -> Result<(), Fault> {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        let since_ms = self.clocks.ms.saturating_sub(peer.empty_ms);
        let forgiven = u32::try_from(since_ms / EMPTY_CLAIM_MS).unwrap_or(u32::MAX);
        peer.empty_claims = peer.empty_claims.saturating_sub(forgiven) + 1;
        peer.empty_ms = self.clocks.ms;
        if peer.empty_claims > EMPTY_CLAIMS_ALLOWED {
            return Err(Fault::NoProgress {
                head: peer.head.hash,
            });
        }
        Ok(())
    }

    /// An answer with bodies.
    pub(super) fn bodies_answer(
        &mut self,
        now: Now,
        id: PeerId,
        request: u64,
        bodies: Vec<Bytes>,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        let heard_ms = self.peers.get(&id).map_or(0, |peer| peer.heard_ms);
        let asked = self.settle(now, id, request, AnswerKind::Bodies)?;
        let (sent_ms, given_up) = (asked.sent_ms, asked.given_up);
        match asked.what {
            What::FetchBody { header } => {
                if bodies.len() > 1 {
                    self.live.fetch_failed(&header.hash);
                    return Err(Fault::TooManyItems {
                        allowed: 1,
                        found: bodies.len(),
                    });
                }
                self.fetched_body(now, id, header, bodies.into_iter().next(), chain)
            }
            What::Bodies { wanted } => {
                if !given_up {
                    for header in &wanted {
                        self.release_body(header);
                    }
                }
                if bodies.len() > wanted.len() {
                    return Err(Fault::TooManyItems {
                        allowed: wanted.len(),
                        found: bodies.len(),
                    });
                }
                let found = bodies.len();
                let bytes: usize = bodies.iter().map(Bytes::len).sum();
                self.match_bodies(id, &wanted, bodies)?;
                self.body_size.learn(found, bytes);
                let answer_bytes = self.config.limits.answer_bytes;
                let least = self.config.limits.body_batch_min;
                if let Some(peer) = self.peers.get_mut(&id) {
                    if found > 0 {
                        peer.learn_rate(bytes, now.ms.saturating_sub(sent_ms.max(heard_ms)));
                    }
                    if found == wanted.len() {
                        peer.body_cap = peer.body_cap.max(found.saturating_mul(2));
                    } else if found > 0 && bytes < answer_bytes / 2 {
                        peer.body_cap = found.max(least);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Bodies come in the order they were asked for, and those that the peer lacks are left out.
    fn match_bodies(
        &mut self,
        id: PeerId,
        wanted: &[Arc<SealedHeader>],
        bodies: Vec<Bytes>,
    ) -> Result<(), Fault> {
        if bodies.is_empty() {
            for header in wanted {
                self.refuse_body(header, id);
            }
        }
        let mut rest = wanted;
        for raw in bodies {
            let Some(first) = rest.first() else {
                let number = wanted.last().map_or(0, |header| header.header.number);
                let why = "it belongs to no block that was asked for".into();
                return Err(Fault::BadBody { number, why });
            };
            let error = match self.rules.check_body(first, &raw) {
                Ok(()) => {
                    self.fill_body(first, raw);
                    rest = &rest[1..];
                    continue;
                }
                Err(BodyError::Invalid(fault)) => {
                    self.invalid_block(first, &fault.to_string());
                    rest = &rest[1..];
                    continue;
                }
                Err(error) => error,
            };
            let bad = |why: String| Fault::BadBody {
                number: first.header.number,
                why,
            };
            // Its roots are taken once and looked for among the others, so that a false body costs one root and not one for
            // each block that was asked for.
            let roots = body::roots(&raw).map_err(|error| bad(error.to_string()))?;
            let skipped = rest
                .iter()
                .position(|header| roots.are_of(header))
                .ok_or_else(|| bad(error.to_string()))?;
            let (lacking, from) = rest.split_at(skipped);
            match self.rules.check_body(&from[0], &raw) {
                Ok(()) => self.fill_body(&from[0], raw),
                Err(BodyError::Invalid(fault)) => {
                    self.invalid_block(&from[0], &fault.to_string());
                }
                Err(error) => return Err(bad(error.to_string())),
            }
            for header in lacking {
                self.refuse_body(header, id);
            }
            rest = &from[1..];
        }
        Ok(())
    }

    /// A body that its header commits to breaks a rule: the sender of the body only showed it. Whoever gave the header
    /// vouched for an invalid block; where headers are known by their hashes, the target itself is invalid.
    fn invalid_block(&mut self, header: &SealedHeader, why: &str) {
        let number = header.header.number;
        if self
            .target
            .as_ref()
            .is_some_and(|target| !target.is_weighed())
        {
            log::error!("The sync target's chain breaks a rule, following nothing: {why}");
            self.give_up_target();
            return;
        }
        let on_main = self.main.bodies.source(header);
        // Of a branch that was weighed one peer vouched for every header, whoever gave it again.
        let claimed = self.target.as_ref().and_then(Target::claimed);
        let on_main = on_main.map(|source| claimed.map_or(source, |(peer, _)| peer));
        let source = on_main.or_else(|| {
            self.branch_pipe()
                .and_then(|pipe| pipe.bodies.source(header))
        });
        if on_main.is_some() {
            self.restart_main();
        } else {
            self.branch = None;
        }
        if let Some(source) = source {
            self.punish(
                source,
                Fault::BadBody {
                    number,
                    why: why.into(),
                },
            );
        }
    }

    fn fill_body(&mut self, header: &SealedHeader, raw: Bytes) {
        if self.main.bodies.wants(header) {
            self.main.bodies.fill(header, raw);
        } else if let Some(pipe) = self.branch_pipe() {
            pipe.bodies.fill(header, raw);
        }
    }

    fn refuse_body(&mut self, header: &SealedHeader, id: PeerId) {
        self.main.bodies.refuse(header, id);
        if let Some(pipe) = self.branch_pipe() {
            pipe.bodies.refuse(header, id);
        }
    }
}

/// Decodes an answer's headers and holds them against what was asked: how many, which first, which way, and that each
/// links to the one before it. What cannot be told from the answer alone is judged later.
fn judge_headers(
    rules: &Rules,
    what: &What,
    raw: Vec<Bytes>,
) -> Result<Vec<Arc<SealedHeader>>, Fault> {
    let (allowed, first, falling) = match what {
        What::Rising { first, count, .. } => (*count, Some(*first), false),
        What::Poll { number, count } => (*count, Some(*number), false),
        What::Ancestor { top, count } => (*count, Some(*top), true),
        What::Falling { count, .. } => (*count, None, true),
        _ => (1, None, false),
    };
    if raw.len() as u64 > allowed {
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        return Err(Fault::TooManyItems {
            allowed,
            found: raw.len(),
        });
    }
    let mut headers: Vec<Arc<SealedHeader>> = Vec::with_capacity(raw.len());
    for raw in raw {
        let expected = match headers.last() {
            None => first,
            Some(last) if falling => last.header.number.checked_sub(1),
            Some(last) => last.header.number.checked_add(1),
        };
        let header = rules.read_header(raw).map_err(|error| Fault::BadHeader {
            number: expected.unwrap_or(0),
            why: error.to_string(),
        })?;
        let number = header.header.number;
        if expected.is_some_and(|expected| expected != number)
            || (expected.is_none() && !headers.is_empty())
        {
            let expected = expected.map_or("nothing below 0".into(), |number| number.to_string());
            let why = format!("expected number {expected}, found {number}");
            return Err(Fault::WrongOrder { why });
        }
        if let Some(last) = headers.last() {
            let (child, parent) = if falling {
                (&**last, &header)
            } else {
                (&header, &**last)
            };
            if child.header.parent_hash != parent.hash {
                return Err(Fault::BadHeader {
                    number: child.header.number,
                    why: format!(
                        "parentHash: expected {} (the header before it in the same answer), found {}",
                        parent.hash, child.header.parent_hash
                    ),
                });
            }
        } else if let What::Head { hash } | What::FetchHeader { hash } | What::Falling { hash, .. } =
            what
            && header.hash != *hash
        {
            let why = format!("expected the header of hash {hash}, found {}", header.hash);
            return Err(Fault::WrongOrder { why });
        }
        headers.push(Arc::new(header));
    }
    Ok(headers)
}
