//! Checks the blocks of an era: links, roots, and with the chain's rules whatever needs no state.

use std::sync::Arc;

use alloy_primitives::{B256, U256, bytes::Bytes};
use cairn::chain::{
    self, HeaderError, OmmerWindow, Rules, SealedHeader, Tip,
    receipts::{Form, Receipts},
};
use cairn_store::{Error, Snapshot};

use super::problem::Problem;
use crate::crew::Done;

/// Ommers hang on one of the last seven blocks, whose own ommers count too.
const OMMER_GENERATIONS: u64 = 8;

/// Problems of one era that are kept. More say nothing new.
const PROBLEMS_KEPT: usize = 100;

/// What checking blocks in a row found.
#[derive(Default, Debug)]
pub(super) struct Checked {
    /// Hash of the last one.
    pub(super) last_hash: B256,
    pub(super) transactions: u64,
    /// Blocks whose receipts were checked.
    pub(super) receipts: u64,
    pub(super) problems: Vec<Problem>,
    /// How many more there were.
    pub(super) more: u64,
    /// From which block on the rules were not asked, and why.
    pub(super) unjudged: Option<(u64, String)>,
}

impl Checked {
    fn problem(&mut self, problem: Problem) {
        let told = |known: &Problem| problem.place.is_some() && known.place == problem.place;
        if self.problems.iter().any(told) {
            return;
        }
        if self.problems.len() < PROBLEMS_KEPT {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// Takes what the store gave; damage becomes a problem.
    fn keep<T>(&mut self, answer: Result<Option<T>, Error>) -> Result<Read<T>, Error> {
        match answer {
            Ok(Some(found)) => Ok(Read::There(found)),
            Ok(None) => Ok(Read::Absent),
            Err(error) => {
                let problem = Problem::of_error(error)?;
                self.problem(problem);
                Ok(Read::Damaged)
            }
        }
    }
}

/// What reading a record came to.
enum Read<T> {
    There(T),
    Absent,
    /// The problem has been noted.
    Damaged,
}

/// Checks blocks `first..=last`.
///
/// # Errors
/// What is no fault of what is stored.
pub(super) fn check(
    snapshot: &Snapshot,
    rules: Option<&Rules>,
    (first, last): (u64, u64),
    done: &Done,
) -> Result<Checked, Error> {
    let mut era = Era {
        snapshot,
        rules,
        found: Checked::default(),
        parent: None,
        tip: None,
        td: None,
        ommers: OmmerWindow::new(),
    };
    era.begin(first)?;
    for number in first..=last {
        era.block(number, number == first)?;
        done.add(1);
    }
    if let Some(parent) = &era.parent {
        era.found.last_hash = parent.hash;
    }
    Ok(era.found)
}

struct Era<'a> {
    snapshot: &'a Snapshot,
    rules: Option<&'a Rules>,
    found: Checked,
    /// The block before, unless it could not be read.
    parent: Option<Arc<SealedHeader>>,
    /// What the rules know after the block before; `None` if they are not asked.
    tip: Option<Tip>,
    /// Total difficulty with the block before, if it is known.
    td: Option<U256>,
    ommers: OmmerWindow,
}

impl Era<'_> {
    /// Learns what must be known before the first block.
    fn begin(&mut self, first: u64) -> Result<(), Error> {
        let Some(before) = first.checked_sub(1) else {
            return Ok(());
        };
        if first == self.snapshot.first_header() {
            // Nothing is known below it, so it is taken as it is and those after it are judged.
            return match (self.rules, self.snapshot.td(first)) {
                (None, _) => Ok(()),
                (Some(rules), Ok(Some(td))) => {
                    if let Err(why) = self.restore(rules, first, td)? {
                        self.found.unjudged = Some((first, why));
                    }
                    Ok(())
                }
                (Some(_), Ok(None)) => {
                    let why = format!("the total difficulty of block {first} is not known");
                    self.found.unjudged = Some((first, why));
                    Ok(())
                }
                (Some(_), Err(error)) => Problem::of_error(error).map(|problem| {
                    self.found.unjudged = Some((first, problem.to_string()));
                }),
            };
        }
        // A fault in there is its own era's: here it only keeps the rules from being asked.
        let header = match self.snapshot.header(before) {
            Ok(Some(header)) => SealedHeader::decode(Bytes::copy_from_slice(&header)).ok(),
            Ok(None) => None,
            Err(error) => Problem::of_error(error).map(|_| None)?,
        };
        let td = match self.snapshot.td(before) {
            Ok(td) => td,
            Err(error) => Problem::of_error(error).map(|_| None)?,
        };
        self.parent = header.map(Arc::new);
        self.td = td;
        let Some(rules) = self.rules else {
            return Ok(());
        };
        match (&self.parent, td) {
            (Some(_), Some(td)) => {
                if let Err(why) = self.restore(rules, before, td)? {
                    self.found.unjudged = Some((first, why));
                }
            }
            (None, _) => {
                let why = format!("block {before} is not there");
                self.found.unjudged = Some((first, why));
            }
            (_, None) => {
                let why = format!("the total difficulty of block {before} is not known");
                self.found.unjudged = Some((first, why));
            }
        }
        for number in before.saturating_sub(OMMER_GENERATIONS - 1)..=before {
            let header = self.snapshot.header(number);
            let body = self.snapshot.body(number);
            if let (Ok(Some(header)), Ok(Some(body))) = (header, body)
                && let Ok(header) = SealedHeader::decode(Bytes::copy_from_slice(&header))
            {
                self.ommers.push(&header, &body);
            }
        }
        Ok(())
    }

    /// Makes the rules' view after block `before`. The inner error says why there is none.
    fn restore(
        &mut self,
        rules: &Rules,
        before: u64,
        td: U256,
    ) -> Result<Result<(), String>, Error> {
        let mut failed = None;
        let restored = rules.restore(before, td, None, &mut |number| match self
            .snapshot
            .header(number)
        {
            Ok(header) => header.map(|header| Bytes::copy_from_slice(&header)),
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        if let Some(error) = failed {
            return Problem::of_error(error).map(|problem| Err(problem.to_string()));
        }
        Ok(restored.map(|tip| self.tip = Some(tip)).map_err(|error| {
            let missing = matches!(error, HeaderError::Missing { .. });
            if !missing {
                self.found.problem(Problem::of_rule(before, &error));
            }
            error.to_string()
        }))
    }

    fn block(&mut self, number: u64, is_first: bool) -> Result<(), Error> {
        let snapshot = self.snapshot;
        let header = match self.found.keep(snapshot.header(number))? {
            Read::There(raw) => SealedHeader::decode(Bytes::copy_from_slice(&raw))
                .map_err(|error| Problem::of_rule(number, &error)),
            Read::Absent => Err(Problem::of_block(number, "the header is missing")),
            Read::Damaged => {
                self.lose(number, "it is damaged");
                return Ok(());
            }
        };
        let header = match header {
            Ok(header) => Arc::new(header),
            Err(problem) => {
                self.found.problem(problem);
                self.lose(number, "its header is none");
                return Ok(());
            }
        };
        self.header(number, &header);
        self.difficulty(number, &header, is_first)?;
        match self.found.keep(snapshot.body(number))? {
            Read::There(body) => {
                self.body(number, &header, &body);
                self.found.transactions += chain::body::transactions(&body).count() as u64;
            }
            Read::Absent if number >= snapshot.first_body() => {
                let problem = Problem::of_block(number, "the body is missing");
                self.found.problem(problem);
            }
            Read::Absent | Read::Damaged => {} // expired, or noted
        }
        if let Read::There(receipts) = self.found.keep(snapshot.receipts(number))? {
            match self.receipts(&header, &receipts) {
                Ok(()) => self.found.receipts += 1,
                Err(what) => self.found.problem(Problem::of_block(number, what)),
            }
        }
        self.parent = Some(header);
        Ok(())
    }

    /// Compares receipts with what their header commits to, and with the rules what else it says of them.
    fn receipts(&self, header: &SealedHeader, raw: &[u8]) -> Result<(), String> {
        let told =
            |error: &dyn ToString| Problem::of_rule(header.header.number, &error.to_string()).what;
        let receipts = Receipts::decode(Form::Eth69, raw).map_err(|error| told(&error))?;
        if let Some(rules) = self.rules {
            return rules
                .check_receipts(header, &receipts)
                .map_err(|error| told(&error));
        }
        let (expected, found) = (header.header.receipts_root, receipts.root());
        match expected == found {
            true => Ok(()),
            false => Err(format!("receiptsRoot: expected {expected}, found {found}")),
        }
    }

    /// The chain is broken here: what follows begins anew, without rules.
    fn lose(&mut self, number: u64, why: &str) {
        if self.tip.take().is_some() {
            let why = format!("block {number}: {why}");
            self.found.unjudged.get_or_insert((number + 1, why));
        }
        self.parent = None;
        self.td = None;
    }

    fn header(&mut self, number: u64, header: &Arc<SealedHeader>) {
        let mut fault = |what: String| self.found.problem(Problem::of_block(number, what));
        if header.header.number != number {
            fault(format!(
                "number: expected {number}, found {}",
                header.header.number
            ));
        }
        if number == 0 {
            let expected = self.snapshot.genesis_hash();
            if header.hash != expected {
                fault(format!(
                    "hash: expected the chain's genesis {expected}, found {}",
                    header.hash
                ));
            }
            self.tip = self.rules.map(Rules::genesis_tip);
        } else if number == self.snapshot.first_header() {
            // See `begin`.
        } else if let Some(tip) = self.tip.take()
            && let Some(rules) = self.rules
        {
            match rules.extend(&tip, Arc::clone(header), None) {
                Ok(next) => self.tip = Some(next),
                Err(error) => {
                    self.found.problem(Problem::of_rule(number, &error));
                    let why = format!("block {number} breaks a rule");
                    self.found.unjudged.get_or_insert((number + 1, why));
                }
            }
        } else if let Some(parent) = &self.parent
            && header.header.parent_hash != parent.hash
        {
            fault(format!(
                "parentHash: expected {}, found {}",
                parent.hash, header.header.parent_hash
            ));
        }
    }

    /// The total difficulty. Of settled blocks it is in the first page of each era's file alone, so only its first block can differ.
    fn difficulty(
        &mut self,
        number: u64,
        header: &SealedHeader,
        is_first: bool,
    ) -> Result<(), Error> {
        let difficulty = header.header.difficulty;
        let expected = match number {
            0 => Some(difficulty),
            _ => self.td.map(|td| td.saturating_add(difficulty)),
        };
        self.td = expected;
        if !is_first && expected.is_some() && number < self.snapshot.first_unsettled() {
            return Ok(());
        }
        let Read::There(stored) = self.found.keep(self.snapshot.td(number))? else {
            return Ok(());
        };
        if let Some(expected) = expected
            && expected != stored
        {
            let what = format!("total difficulty: expected {expected}, found {stored}");
            self.found.problem(Problem::of_block(number, what));
        }
        self.td = Some(stored);
        Ok(())
    }

    fn body(&mut self, number: u64, header: &SealedHeader, body: &[u8]) {
        let judged = match self.rules {
            Some(rules) if number > 0 => rules
                .check_body(header, body)
                .and_then(|()| self.ommers.check(rules, header, body))
                .map_err(|error| Problem::of_rule(number, &error)),
            _ => roots(header, body).map_err(|what| Problem::of_block(number, what)),
        };
        if self.rules.is_some() {
            self.ommers.push(header, body);
        }
        if let Err(problem) = judged {
            self.found.problem(problem);
        }
    }
}

/// Compares what a header commits to of its body with what the body has.
fn roots(header: &SealedHeader, body: &[u8]) -> Result<(), String> {
    let number = header.header.number;
    let roots = chain::body::roots(body).map_err(|error| Problem::of_rule(number, &error).what)?;
    let header = &header.header;
    for (field, expected, found) in [
        (
            "transactionsRoot",
            Some(header.transactions_root),
            Some(roots.transactions),
        ),
        ("sha3Uncles", Some(header.ommers_hash), Some(roots.ommers)),
        (
            "withdrawalsRoot",
            header.withdrawals_root,
            roots.withdrawals,
        ),
    ] {
        if expected != found {
            let say = |root: Option<B256>| root.map_or("none".to_owned(), |root| root.to_string());
            return Err(format!(
                "{field}: expected {}, found {}",
                say(expected),
                say(found)
            ));
        }
    }
    Ok(())
}
