INSERT INTO audit (at, who, verb, what, count) VALUES (:at, :who, :verb, :what, :count)
