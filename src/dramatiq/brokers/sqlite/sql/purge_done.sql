DELETE FROM done WHERE at <= :before
