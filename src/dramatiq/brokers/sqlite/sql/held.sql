SELECT seq FROM messages WHERE state = 2 AND owner = :owner AND queue = :queue
