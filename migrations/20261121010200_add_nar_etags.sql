-- What a NAR was when it was read back before its narinfo was signed: a commit wants it to be that still.
alter table upload_narinfos add column nar_etag text;
