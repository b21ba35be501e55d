-- A push in progress: one row, whatever its size. While it is there, its keys are roots of every collection.
create table uploads (
    id bigint generated always as identity primary key,
    owner text not null,
    origin jsonb not null,
    roots text[] not null,
    keys text[] not null,
    -- the objects of the request, as JSON; read back at sign and at commit
    plan bytea not null,
    -- keys that were not live at begin: the commit looks for these in the bucket
    missing text[] not null default '{}',
    started_at timestamptz not null default now(),
    -- when the last upload address that was handed out ends
    addresses_until timestamptz not null
);

-- Ten thousand keys are half a megabyte: compressing them costs more than writing them.
alter table uploads alter column keys set storage external;
alter table uploads alter column missing set storage external;
alter table uploads alter column plan set storage external;

-- What was signed for an upload, until its commit.
create table upload_narinfos (
    upload_id bigint not null references uploads on delete cascade,
    key text collate "C" not null,
    narinfo jsonb not null,
    signatures text[] not null,
    primary key (upload_id, key)
);

-- Multipart uploads S3 holds open for us. A row outlives its upload until S3 has aborted it.
create table multipart_uploads (
    s3_upload_id text primary key,
    object_key text collate "C" not null,
    upload_id bigint not null,
    created_at timestamptz not null default now()
);

create index multipart_uploads_upload on multipart_uploads (upload_id);
