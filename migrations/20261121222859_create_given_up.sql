-- Objects that a repair of fsck gave up, and narinfos that it withdrew because they lead there, until all such are withdrawn:
-- one that is interrupted goes on with these. No foreign key: an id of no row does no harm, and goes with the others.
create table given_up (
    object_id bigint primary key
);
