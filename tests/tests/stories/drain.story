# A drained node gives its slots one after the other, as the update rules say; each is stopped there
# before it is started elsewhere. Once it may have work again nothing moves back by itself.
node n1
node n2
node n3
service web web:1 replicas=4
apply
run 1000
show
drain n1
run 2000
show
active n1
run 1000
show
service web web:1 replicas=5
apply
run 1000
show
