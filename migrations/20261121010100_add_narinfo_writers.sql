-- The server alone writes narinfos, one upload at a time each (docs/gc.md): which upload may write one that is
-- not live, and when the last request to write it has happened or never will.
alter table objects add column writing_by bigint, add column settles_at timestamptz;

-- sealed: its narinfos may be in the bucket already, so what they say stands.
-- staged: its client sends narinfos of its own, as niks3 1.7 does, to where nobody reads.
alter table uploads add column sealed boolean not null default false, add column staged boolean not null default false;
