# One in four may fail; the second failure takes all of them back to what ran before.
node n1
node n2
service web web:1 replicas=4 action=rollback ratio=25 parallelism=2 monitor=2000
apply
run 1000
image web:2 crashes
service web web:2 replicas=4 action=rollback ratio=25 parallelism=2 monitor=2000
apply
run 10000
show
resume web
run 1
