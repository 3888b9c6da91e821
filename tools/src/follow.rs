//! A store that may be written to while it is read: a view whose files were replaced is taken anew.

use std::{path::Path, sync::Arc};

use cairn_store::{Error, Reader, Snapshot};

use crate::failure::Failure;

/// How often a view is taken anew for one question. Replacing files takes a writer longer than opening them takes us.
const ATTEMPTS: usize = 20;

/// A reader and its latest view.
pub(crate) struct Follow {
    reader: Reader,
    snapshot: Arc<Snapshot>,
}

impl Follow {
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let reader = Reader::open(folder)?;
        let snapshot = reader.snapshot();
        Ok(Self { reader, snapshot })
    }

    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Takes the latest view.
    pub(crate) fn refresh(&mut self) -> Result<(), Error> {
        self.reader.refresh()?;
        self.snapshot = self.reader.snapshot();
        Ok(())
    }

    /// Asks `question`, again on a newer view if this one's files were replaced meanwhile.
    pub(crate) fn ask<T>(
        &mut self,
        question: impl Fn(&Snapshot) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        for _ in 0..ATTEMPTS {
            match question(&self.snapshot) {
                Err(Failure::Store(Error::Superseded { .. })) => self.refresh()?,
                answer => return answer,
            }
        }
        question(&self.snapshot)
    }
}

/// Asks `question` of a view that others use too, and of newer ones if its files were replaced meanwhile.
pub(crate) fn again<T>(
    folder: &Path,
    snapshot: &Snapshot,
    question: impl Fn(&Snapshot) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match question(snapshot) {
        Err(Failure::Store(Error::Superseded { .. })) => Follow::open(folder)?.ask(question),
        answer => answer,
    }
}

/// What inspects writes nothing in the store.
pub(crate) fn refuse_inside(path: &Path, folder: &Path) -> Result<(), Failure> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let inside = match (parent.canonicalize(), folder.canonicalize()) {
        (Ok(parent), Ok(folder)) => parent.starts_with(folder),
        _ => false,
    };
    match inside {
        true => Err(Failure::Usage(format!(
            "{}: what inspects writes nothing into the store: name a file outside {}",
            path.display(),
            folder.display()
        ))),
        false => Ok(()),
    }
}
