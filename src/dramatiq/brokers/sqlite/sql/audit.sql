SELECT at, who, verb, what, count FROM audit ORDER BY id DESC LIMIT :count
