-- fsck found that something the closure reaches was lost: it counts as not pushed until it is pushed again.
alter table closures add column incomplete boolean not null default false;

-- fsck reads NARs back by their keys.
create index narinfos_nar on narinfos (nar_key);
