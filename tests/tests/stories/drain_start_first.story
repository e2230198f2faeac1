# With start-first a slot is on both nodes until the new one is ready, two at a time here. Where all
# other nodes are drained too there is no place to go: they stay.
node n1
node n2
service web web:1 replicas=6 start-first parallelism=2
apply
run 1000
drain n1
run 2000
show
drain n2
run 2000
show
