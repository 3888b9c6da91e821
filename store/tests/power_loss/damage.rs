//! Damage of a store's files, and its repair with power losses and faults in it: nothing that was valid is lost, what is
//! done is what the dry run said, and a second repair finishes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use alloy_primitives::B256;

use crate::format::Kind;
use crate::history::{History, tell};
use crate::machine::{self, Fault, STORE};
use crate::manifest;
use crate::model::{Block, Has, Model};
use crate::repair::{Repair, repair};
use crate::{Error, Head, NewBody, Reader, Snapshot, Writer};

/// All that can be read of a store, as far as its tip log can be.
struct Sight {
    head: Head,
    first_header: u64,
    first_body: u64,
    /// Each record that is there and whole, by kind's column and number.
    records: BTreeMap<(usize, u64), Vec<u8>>,
    hashes: BTreeMap<u64, B256>,
    /// Records that are not absent and cannot be read.
    unreadable: u64,
}

impl Sight {
    /// `None`: the MANIFEST, or the tip log, does not open.
    fn take() -> Option<Sight> {
        let dir = Path::new(STORE);
        let found = manifest::find(dir).ok()?;
        let snapshot = Snapshot::open_found(dir, &found, false).ok()?;
        let mut sight = Sight {
            head: snapshot.head(),
            first_header: snapshot.first_header(),
            first_body: snapshot.first_body(),
            records: BTreeMap::new(),
            hashes: BTreeMap::new(),
            unreadable: 0,
        };
        for number in sight.first_header..=sight.head.number {
            let header = snapshot.header(number);
            let header = header.map(|found| found.map(|header| header.to_vec()));
            let records = [header, snapshot.body(number), snapshot.receipts(number)];
            for (column, record) in records.into_iter().enumerate() {
                match record {
                    Ok(Some(bytes)) => drop(sight.records.insert((column, number), bytes)),
                    Ok(None) => {}
                    Err(_) => sight.unreadable += 1,
                }
            }
            if let Ok(Some(hash)) = snapshot.hash(number) {
                sight.hashes.insert(number, hash);
            }
        }
        Some(sight)
    }

    /// Whether all that was seen before is still to be seen.
    fn has_all_of(&self, before: &Sight) -> Result<(), String> {
        if self.head != before.head {
            return Err(format!("head {:?}, before {:?}", self.head, before.head));
        }
        for (&(column, number), bytes) in &before.records {
            if self.records.get(&(column, number)) != Some(bytes) {
                return Err(format!("kind {column} of block {number} was valid"));
            }
        }
        Ok(())
    }
}

impl History<'_> {
    /// Damages what the disk has, all of which is durable, and repairs it. The history ends if something is lost for good.
    pub(crate) fn damage(&mut self) -> Result<(), String> {
        let Some(Some(model)) = self.possible.first().cloned() else {
            return Ok(());
        };
        machine::set_fault(Fault::None);
        self.counts.damages += 1;
        for _ in 0..1 + self.random.below(2) {
            self.damage_one();
        }
        let before = Sight::take();
        let (mut kept, mut first) = (Vec::new(), Vec::new());
        let fault = match self.random.below(5) {
            0 | 1 => Fault::Power(self.random.below(40)),
            2 => Fault::Sync(self.random.below(20)),
            3 => Fault::Write(self.random.below(40)),
            _ => Fault::None,
        };
        tell!("repair: {fault:?}");
        self.repair_with(fault, &mut kept, &mut first)?;
        if machine::is_dead() || self.random.one_in(2) {
            tell!("the power goes");
            machine::lose_power();
        }
        let Some(done) = self.repair_with(Fault::None, &mut kept, &mut Vec::new())? else {
            self.ended = true; // there is no MANIFEST to go by
            return Ok(());
        };
        if self.random.one_in(2) {
            machine::lose_power();
        }
        let again = repair(Path::new(STORE), true).map_err(|e| format!("a third repair: {e}"))?;
        // What the first one did before it failed could be seen, so that the second left it, and need not be on the disk.
        let failed = matches!(fault, Fault::Sync(_) | Fault::Write(_));
        let again_or_copy =
            |path: &Path| machine::is_manifest(path) || first.iter().any(|first| first == path);
        let unseen = |path: &Path| failed && again_or_copy(path);
        if again.actions.iter().any(|action| !unseen(&action.path)) {
            return Err(format!("a third repair: {:?}", again.actions));
        }
        for (path, bytes) in &kept {
            let aside = PathBuf::from(format!("{}.damaged", path.display()));
            let stays = [path, &aside]
                .into_iter()
                .any(|path| machine::bytes(path).as_ref() == Some(bytes));
            if !stays {
                return Err(format!("{} is gone, with what was valid", path.display()));
            }
        }
        let after = Sight::take();
        match (&before, &after) {
            (Some(before), Some(after)) => after
                .has_all_of(before)
                .map_err(|e| format!("after the repair: {e}"))?,
            (Some(_), None) => return Err("after the repair it does not open".to_owned()),
            (None, _) => {}
        }
        let Some(after) = after.filter(|_| done.left.is_empty()) else {
            self.counts.damages_left += 1;
            self.ended = true;
            return Ok(());
        };
        if after.unreadable > 0 {
            return Err(format!(
                "{} records cannot be read, and nothing is left",
                after.unreadable
            ));
        }
        self.go_on(&model, &after)
    }

    /// Tries a repair dry and does it. `None`: it cannot even be tried.
    fn repair_with(
        &mut self,
        fault: Fault,
        kept: &mut Vec<(PathBuf, Vec<u8>)>,
        touched: &mut Vec<PathBuf>,
    ) -> Result<Option<Repair>, String> {
        let dir = Path::new(STORE);
        machine::set_fault(Fault::None);
        let dry = match repair(dir, true) {
            Ok(dry) => dry,
            Err(Error::NoStore { .. }) => return Ok(None),
            Err(e) => return Err(format!("a dry repair: {e}")),
        };
        if machine::changes() > 0 {
            return Err("a dry repair changes the disk".to_owned());
        }
        for action in &dry.actions {
            tell!("  {action}");
            touched.push(action.path.clone());
            let is_replaced =
                action.what.starts_with("replaced") || action.what.starts_with("ended");
            if let Some(bytes) = machine::bytes(&action.path).filter(|_| is_replaced) {
                kept.push((action.path.clone(), bytes));
            }
        }
        machine::set_fault(fault);
        match repair(dir, false) {
            Ok(done) if done.actions != dry.actions => {
                Err(format!("dry: {:?}, done: {:?}", dry.actions, done.actions))
            }
            // What the dry run says it leaves is what there is then.
            Ok(done) if done.left != dry.left => {
                Err(format!("dry left: {:?}, left: {:?}", dry.left, done.left))
            }
            Ok(done) => {
                self.counts.repairs += u64::from(!done.actions.is_empty());
                Ok(Some(done))
            }
            Err(e) if machine::fault_hit() => {
                tell!("  failed: {e}");
                self.counts.repairs_cut += 1;
                Ok(None)
            }
            Err(e) => Err(format!("repair: {e}")),
        }
    }

    /// Gives the bodies again that the repair left out.
    fn put_back(&mut self, lost: &[Rc<Block>]) -> Result<(), String> {
        self.counts.bodies_lost += lost.len() as u64;
        let bodies: Vec<NewBody<'_>> = lost
            .iter()
            .map(|block| NewBody {
                number: block.number,
                hash: block.hash,
                body: &block.body,
            })
            .collect();
        let faults = [
            Fault::Power(self.random.below(30)),
            Fault::Write(self.random.below(60)),
        ];
        for fault in faults.into_iter().chain([Fault::None]) {
            machine::set_fault(fault);
            let put =
                Writer::open(Path::new(STORE)).and_then(|mut writer| writer.add_bodies(&bodies));
            let failed = machine::fault_hit();
            if machine::is_dead() {
                machine::lose_power();
            }
            machine::set_fault(Fault::None);
            match put {
                Err(e) if failed => tell!("  bodies: {e}"),
                other => return other.map_err(|e| format!("bodies: {e}")),
            }
        }
        Ok(())
    }

    fn damage_one(&mut self) {
        let files = machine::files();
        let is_manifest = self.random.one_in(5);
        let files: Vec<&PathBuf> = files
            .iter()
            .filter(|path| machine::is_manifest(path) == is_manifest)
            .collect();
        let Some(&path) = files.get(self.random.below(files.len().max(1) as u64) as usize) else {
            return;
        };
        let mut bytes = machine::bytes(path).unwrap_or_default();
        let length = bytes.len() as u64;
        let what = match self.random.below(8) {
            0 => {
                machine::put_bytes(path, None);
                "lost".to_owned()
            }
            1 | 2 => {
                let to = self.random.below(length + 1);
                bytes.truncate(to as usize);
                machine::put_bytes(path, Some(bytes));
                format!("cut to {to} of {length} bytes")
            }
            _ if length == 0 => return,
            _ => {
                // Most of a file is zeros that mean little.
                let mut at = self.random.below(length) as usize;
                for _ in 0..20 {
                    if bytes[at] != 0 {
                        break;
                    }
                    at = self.random.below(length) as usize;
                }
                let bit = self.random.below(8);
                bytes[at] ^= 1 << bit;
                machine::put_bytes(path, Some(bytes));
                format!("bit {bit} of byte {at} of {length}")
            }
        };
        tell!("damage: {}: {what}", path.display());
    }

    /// The store is what was seen of it: if all its blocks are whole the history goes on.
    fn go_on(&mut self, model: &Model, after: &Sight) -> Result<(), String> {
        let mut chain = model.chain.clone();
        chain.truncate(after.first_header as usize);
        let mut has = vec![Has::No; chain.len()];
        let mut lost = Vec::new();
        let column = |kind: Kind| kind.column();
        for number in after.first_header..=after.head.number {
            let hash = after.hashes.get(&number);
            let block = hash.and_then(|hash| self.known.get(hash)).cloned();
            let Some(block) = block.filter(|block| block.number == number) else {
                return Err(format!("block {number} is none that was given"));
            };
            let record = |kind| after.records.get(&(column(kind), number));
            let differs = |kind| Err(format!("after the repair {kind:?} {number} is another"));
            let Block { header, body, .. } = &*block;
            if record(Kind::Headers) != Some(header) {
                return differs(Kind::Headers);
            }
            if record(Kind::Bodies).is_some_and(|found| found != body) {
                return differs(Kind::Bodies);
            }
            let receipts = record(Kind::Receipts);
            if receipts.is_some_and(|found| *found != block.receipts) {
                return differs(Kind::Receipts);
            }
            if number >= after.first_body && record(Kind::Bodies).is_none() {
                lost.push(block.clone());
            }
            has.push(if receipts.is_some() {
                Has::Yes
            } else {
                Has::No
            });
            chain.push(block);
        }
        self.put_back(&lost)?;
        let model = Model {
            chain,
            has,
            first_header: after.first_header,
            first_body: after.first_body,
        };
        let whole = Reader::open(Path::new(STORE)).map_err(|e| e.to_string())?;
        model.compare(&whole.snapshot(), &mut self.random)?;
        model.verify()?;
        self.possible = vec![Some(model)];
        Ok(())
    }
}
