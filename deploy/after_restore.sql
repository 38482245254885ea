-- After a restore, before any server is started: psql --file deploy/after_restore.sql DATABASE
-- The dump's fencing tokens are older than those that were handed out after it. Whoever compares them (an engine,
-- a file store) would refuse the new holders. Milliseconds since 1970 are above every token so far, and above
-- those of the next restore of the same dump as well.
UPDATE leases_lease
SET fencing_token = GREATEST(fencing_token + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
RETURNING service_id, fencing_token;
