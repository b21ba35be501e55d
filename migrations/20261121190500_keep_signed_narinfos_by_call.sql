-- What was signed for an upload, until its commit: a row a call of sign in place of one a narinfo, of which ten thousand
-- took PostgreSQL longer than to sign them. An upload that was begun under another version begins again.
drop table upload_narinfos;
create table signed_narinfos (
    id bigint generated always as identity primary key,
    upload_id bigint not null references uploads on delete cascade,
    -- JSON, read back at commit
    narinfos bytea not null
);
create index signed_narinfos_upload on signed_narinfos (upload_id);
alter table signed_narinfos alter column narinfos set storage external;
