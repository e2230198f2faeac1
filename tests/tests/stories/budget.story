# At most one of four may be down: the one that is down already goes first.
node n1
node n2
node n3
node n4
service sensor sensor:1 global parallelism=0 monitor=500 down=1 waves=100%
apply
run 1000
service sensor sensor:2 global parallelism=0 monitor=500 down=1 waves=100%
apply
run 5000
show
