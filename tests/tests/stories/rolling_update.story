# Three instances on two nodes, one after the other; only the changed service is restarted.
node n1
node n2
service web web:1 replicas=3
service db db:1
apply
run 1000
service web web:2 replicas=3
apply
run 10000
show
