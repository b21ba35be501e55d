-- Names for closures that every collection keeps.
create table pins (
    name text collate "C" primary key,
    closure_key text collate "C" not null references closures (key),
    store_path text not null,
    written_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index pins_closure on pins (closure_key);
