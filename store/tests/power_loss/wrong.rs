//! The orders of writes that are wrong, each of which the explorer must find: the tests of the test.

/// Orders of writes that are wrong, each of which the explorer must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wrong {
    /// Segments and runs are not synced before the MANIFEST names them.
    DataUnsynced,
    /// A frame is acknowledged before it is synced.
    TipUnsynced,
    /// MANIFEST.1 is written while MANIFEST.0 is not synced.
    FirstCopyUnsynced,
    /// The change goes on while MANIFEST.1 is not synced.
    SecondCopyUnsynced,
    /// MANIFEST.1 is left as it was.
    SecondCopyLeft,
    /// The store's folder is not synced where the tip log was made.
    StoreFolderUnsynced,
    /// The folders of segments and runs are not synced.
    FoldersUnsynced,
    /// A merged run is renamed without a sync of its bytes.
    MergeUnsynced,
    /// The old tip log is removed before the MANIFEST is written.
    UnlinkFirst,
    /// Every tip log has the same salt.
    SaltReused,
    /// A session's first change does not write the MANIFEST it found again.
    FoundNotRewritten,
    /// It does, but the copy it was not found in first.
    FoundRewrittenBackwards,
    /// A session appends to the tip log it found.
    TipResumed,
    /// A closing frame is written before the frame in front of it is synced: one sync for both.
    ClosedEarly,
    /// A closing frame is written behind a frame whose sync failed.
    ClosedAfterFailure,
    /// The parts of a branch are not synced before they get their names.
    BranchUnsynced,
    /// Folders are synced before the parts of a branch, and merged runs, get their names in them.
    NamedLate,
    /// A damaged file gets the name it is kept by when the MANIFEST that replaces it is written.
    KeptLate,
}

impl Wrong {
    pub(crate) const ALL: [Wrong; 18] = [
        Wrong::DataUnsynced,
        Wrong::TipUnsynced,
        Wrong::FirstCopyUnsynced,
        Wrong::SecondCopyUnsynced,
        Wrong::SecondCopyLeft,
        Wrong::StoreFolderUnsynced,
        Wrong::FoldersUnsynced,
        Wrong::MergeUnsynced,
        Wrong::UnlinkFirst,
        Wrong::SaltReused,
        Wrong::FoundNotRewritten,
        Wrong::FoundRewrittenBackwards,
        Wrong::TipResumed,
        Wrong::ClosedEarly,
        Wrong::ClosedAfterFailure,
        Wrong::BranchUnsynced,
        Wrong::NamedLate,
        Wrong::KeptLate,
    ];
}
