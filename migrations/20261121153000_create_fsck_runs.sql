-- Every comparison of bucket and rows that the server was asked for. One that its server did not end is gone on with
-- from `after`.
create table fsck_runs (
    id bigint generated always as identity primary key,
    state text not null check (state in ('running', 'succeeded', 'failed')),
    phase text not null,
    params jsonb not null,
    summary jsonb not null,
    -- the first of what it found
    findings jsonb not null,
    after text,
    error text,
    reason text,
    abort_requested boolean not null default false,
    started_at timestamptz not null default now(),
    -- also the heartbeat of a running one
    updated_at timestamptz not null default now(),
    finished_at timestamptz
);

create unique index fsck_runs_one_running on fsck_runs ((true)) where state = 'running';
