# An image that cannot be had costs nobody a running service, and a better one goes ahead.
node n1
node n2
service web web:1 replicas=2 monitor=1000
apply
run 1000
image web:2 missing
service web web:2 replicas=2 monitor=1000
apply
run 3000
show
service web web:3 replicas=2 monitor=1000
apply
run 5000
show
