-- Every collection, so that a restart neither forgets one nor starts a second beside it.
create table gc_runs (
    id bigint generated always as identity primary key,
    state text not null check (state in ('running', 'succeeded', 'failed')),
    phase text not null,
    params jsonb not null,
    stats jsonb not null,
    warnings text[] not null default '{}',
    error text,
    started_at timestamptz not null default now(),
    -- also the heartbeat of a running one
    updated_at timestamptz not null default now(),
    finished_at timestamptz
);

create unique index gc_runs_one_running on gc_runs ((true)) where state = 'running';
