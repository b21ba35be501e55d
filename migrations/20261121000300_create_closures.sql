-- A committed root. Its object, and all that reaches, is in the bucket: the promise.
create table closures (
    key text collate "C" primary key references objects (key),
    pushed_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index closures_updated on closures (updated_at);

-- What each narinfo says and who pushed it; rotation, provenance and reads need it.
create table narinfos (
    key text collate "C" primary key references objects (key) on delete cascade,
    store_path text not null,
    nar_key text not null,
    compression text not null,
    nar_hash text not null,
    nar_size bigint not null,
    refs text[] not null,
    deriver text,
    ca text,
    signatures text[] not null,
    pushed_by text not null,
    origin jsonb not null,
    pushed_at timestamptz not null default now()
);
