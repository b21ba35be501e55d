-- Nothing looks objects up by when they were condemned, but a claim compares that time with the snapshot's: where the
-- statistics were old the planner went there by this index, and read all that one mark had condemned for each object.
drop index objects_condemned;
