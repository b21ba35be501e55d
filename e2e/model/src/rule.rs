//! The rules of docs/gc.md, each of which can be switched off.

/// A rule, named by what holds while it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// 1: the upload is committed before the states are read. Off: both in one transaction, in which another
    /// transaction sees the upload only after the states were read.
    BeginInTwo,
    /// 1: begin lifts condemnations.
    BeginLifts,
    /// 1: begin waits for what is being deleted. Off: it goes by the row.
    BeginWaits,
    /// 1: an expected object is missing, even when it was condemned and comes back.
    ExpectedIsMissing,
    /// 2: commit looks in the bucket.
    CommitLooks,
    /// 2: commit locks the upload's row, and fails where it is gone.
    CommitLocksUpload,
    /// 2: commit fails on what is being deleted.
    CommitSeesDeleting,
    /// 2: commit lifts condemnations.
    CommitLifts,
    /// 2: what the plan refers to outside the upload is demanded, and made live roots, before the commit.
    CommitProtectsOutside,
    /// 3 and 10: an upload ends after its addresses.
    UploadOutlivesAddresses,
    /// 4: open uploads are roots.
    UploadsAreRoots,
    /// 5, 7: only what was condemned before the snapshot is a candidate. Off: `force` is one mark.
    CondemnedBeforeSnapshot,
    /// 5: a claim demands that it is condemned since exactly then. Off: that it is condemned.
    ClaimChecksSince,
    /// 5: a claim demands that it is condemned at all.
    ClaimChecksCondemned,
    /// 5: an object is claimed only after the deletion of all that refers to it is confirmed. Off: narinfos
    /// need not wait for narinfos.
    DependentsFirst,
    /// 5: the same for what narinfos refer to. Off: nothing waits for anything.
    NarinfosFirst,
    /// 5: a row goes after the bucket confirmed.
    RowGoesLast,
    /// 6: after a lost answer the delete is sent again only when T has passed.
    LostAnswerWaits,
    /// 6: a key is not given back while an answer is outstanding.
    OutstandingStaysClaimed,
    /// 6: a key comes back as expected.
    ComesBackExpected,
    /// 8: a claim is taken over after T.
    TakeOverWaits,
    /// 8: a living sweeper sends what it claimed before T has passed. Off: one that was suspended sends later.
    SweeperSendsInTime,
    /// 8: the delete of a claim taken over is sent again before its row goes.
    TakeOverSendsAgain,
    /// 8: a sweeper settles only what it still holds.
    SettlesOnlyItsOwn,
    /// 11: a narinfo has one writer at a time.
    OneWriter,
    /// 11: a narinfo that is live is not written.
    LiveIsNotWritten,
    /// 11: others wait until every request to write has happened or never will.
    WriteSettles,
    /// 11: a writer sends no more when others may claim.
    WriterSendsInTime,
    /// 11: where a request may be under way, the commit leaves the claim to settle.
    LostWriteStays,
    /// 11: the commit demands that what it wrote is still its own.
    CommitSeesWriter,
    /// 11: a collection does not claim what a write may be under way to.
    ClaimWaitsForWrites,
    /// 13: what is signed again is claimed, so that no collection claims it meanwhile.
    ResignClaims,
    /// 13: only what is live and not being deleted.
    ResignSeesLive,
    /// 13: only what no earlier write may be under way to.
    ResignWaitsForWrites,
    /// 13: only what says still what it said when it was read.
    ResignChecksRead,
    /// 13: nothing is sent when others may claim.
    ResignSendsInTime,
    /// 13: where a request may be under way, the claim stays.
    ResignLostStays,
}
