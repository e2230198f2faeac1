# The new container runs before the old one is stopped.
node n1
service web web:1 replicas=2 start-first
apply
run 1000
service web web:2 replicas=2 start-first monitor=1000
apply
run 5000
show
