-- Which cache this is: the same text stands in the bucket, so that no two caches take one bucket and prefix for
-- their own and collect each other's objects.
create table cache_identity (
    only_one boolean primary key default true check (only_one),
    id text not null
);
