-- What each pin points to and pointed to before. Only a policy's rules make earlier targets stay; where they do
-- not, a target goes with its closure.
create table pin_revisions (
    name text collate "C" not null references pins on delete cascade,
    closure_key text collate "C" not null references closures (key) on delete cascade,
    written_at timestamptz not null default now(),
    primary key (name, closure_key)
);

create index pin_revisions_closure on pin_revisions (closure_key);

insert into pin_revisions (name, closure_key, written_at) select name, closure_key, updated_at from pins;

-- The day on which a narinfo was last read through the server. No foreign key: readers must not wait for pushes
-- and collections, nor these for them; a collection removes what leads nowhere.
create table reads (
    key text collate "C" primary key,
    read_on date not null
);

-- Why a run failed, for programs; what it found to keep and to delete; and that somebody wants it to end.
alter table gc_runs add column reason text;
alter table gc_runs add column plan jsonb;
alter table gc_runs add column abort_requested boolean not null default false;
