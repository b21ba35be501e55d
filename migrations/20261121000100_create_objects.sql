-- What the bucket holds, or was promised. An object is expected (an upload promised it) until a commit has
-- seen it in the bucket, then live. Either may be condemned (nothing reaches it), then deleting (claimed by a
-- collection). docs/gc.md explains the protocol these columns carry.
create table objects (
    id bigint generated always as identity primary key,
    key text collate "C" not null unique,
    live boolean not null default false,
    nar_size bigint,
    stored_size bigint,
    -- ids of the objects it refers to; an array, because a mark reads all of them and nothing reads one
    refs bigint[] not null default '{}',
    condemned_at timestamptz,
    deleting_since timestamptz,
    deleting_by bigint
);

create index objects_condemned on objects (condemned_at) where condemned_at is not null;
create index objects_deleting on objects (deleting_since) where deleting_since is not null;
