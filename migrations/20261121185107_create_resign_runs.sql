-- Every time stored narinfos were signed again, because the keys that sign changed. One that its server did not end is
-- gone on with from `after`.
create table resign_runs (
    id bigint generated always as identity primary key,
    state text not null check (state in ('running', 'succeeded', 'failed')),
    -- the public keys of those that sign, and of those that are revoked
    params jsonb not null,
    -- only what was pushed since is looked at; all where it is null
    since timestamptz,
    -- when the first of the runs began that this one goes on with
    began_at timestamptz not null,
    counts jsonb not null,
    after text,
    error text,
    started_at timestamptz not null default now(),
    -- also the heartbeat of a running one
    updated_at timestamptz not null default now(),
    finished_at timestamptz
);

create unique index resign_runs_one_running on resign_runs ((true)) where state = 'running';
