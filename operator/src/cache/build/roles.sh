# Before PostgreSQL starts: each role of the folder ROLES, a file with its password, may log in and acts as the owner
# of all tables; older ones may no more. A database that is not there yet is made by the image itself.
# What fails is said and stops nothing: who knew the way in before goes on.
set -u
owner=niks3
[ -s "$PGDATA/PG_VERSION" ] || exit 0
cd "$ROLES" || exit 0
{
  # One line is one statement here.
  create() { echo "DO 'BEGIN CREATE ROLE $1; EXCEPTION WHEN duplicate_object THEN NULL; END';"; }
  create "$owner SUPERUSER"
  listed=
  for role in *; do
    [ "$role" = "$owner" ] || {
      create "$role"
      echo "GRANT $owner TO $role;"
      echo "ALTER ROLE $role SET role = '$owner';"
    }
    echo "ALTER ROLE $role LOGIN PASSWORD '$(cat "$role")';"
    listed="$listed, ''$role''"
  done
  echo "DO 'DECLARE r text; BEGIN FOR r IN SELECT rolname FROM pg_roles" \
    "WHERE rolname ~ ''^$owner(_[0-9a-f]+)?\$'' AND rolname NOT IN (''''$listed)" \
    "LOOP EXECUTE format(''ALTER ROLE %I PASSWORD NULL'', r); END LOOP; END';"
} | postgres --single -D "$PGDATA" -c log_min_error_statement=panic postgres > /dev/null ||
  echo "the roles could not be set: the database goes on with those it has" >&2
exit 0
