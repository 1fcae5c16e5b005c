-- Nobody waits for the disk: a history is no promise.
SELECT set_config('synchronous_commit', 'off', true)
